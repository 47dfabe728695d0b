package journal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
)

const (
	magic      = "bgjrnl1\x00"
	headerSize = 64
	entrySize  = 64 // without data
	endSize    = entrySize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is one file. Its fields belong to the Journal's lock, but for file, whose content below durable never changes
// while the segment is in use.
type segment struct {
	name string
	size int64
	file File

	gen     uint64   // 0: never used
	free    bool     // may be used again; until it is, what it holds is still on the disk
	ranges  []extent // what holds entries; one, unless damaged
	streams map[SID]*span
	trims   map[SID]uint64 // trims written here
}

// extent is a part of a file.
type extent struct{ from, to int64 }

// span says which entries of a stream lie in a segment.
type span struct {
	first, last uint64 // n
	bytes       int64
	runs        []run
	coarse      uint8 // how often the runs were made coarser
}

// header gives a segment's first 64 bytes.
func header(id [16]byte, gen uint64) []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, gen)
	b = append(b, make([]byte, 24)...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, 0, 0, 0, 0)
}

// parseHeader reads it. fresh: all zero, the file was never used.
func parseHeader(b []byte) (id [16]byte, gen uint64, fresh, ok bool) {
	if bytes.Equal(b, make([]byte, headerSize)) {
		return id, 0, true, true
	}
	copy(id[:], b[8:24])
	gen = binary.BigEndian.Uint64(b[24:])
	return id, gen, false, bytes.Equal(b, header(id, gen)) && gen > 0
}

// placed is an entry with its place.
type placed struct {
	Entry
	gen, seq, batch uint64
	left            uint32
}

// room is what n bytes of data take in a segment.
func room(n int) int64 { return entrySize + (int64(n)+7)&^7 }

// append encodes the entry.
func (p placed) append(b []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.Data)))
	b = binary.BigEndian.AppendUint64(b, p.gen)
	b = binary.BigEndian.AppendUint64(b, p.seq)
	b = binary.BigEndian.AppendUint64(b, p.N)
	b = binary.BigEndian.AppendUint64(b, p.batch)
	b = append(b, p.Stream[:]...)
	b = append(b, byte(p.Kind), 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, p.left)
	b = append(b, p.Data...)
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return append(b, make([]byte, -len(p.Data)&7)...)
}

// parse reads the entry that begins b, if there is a whole one of this generation. size is what it takes.
func parse(b []byte, gen uint64) (p placed, size int64, ok bool) {
	if len(b) < entrySize {
		return p, 0, false
	}
	n := binary.BigEndian.Uint32(b[4:])
	p.gen = binary.BigEndian.Uint64(b[8:])
	if p.gen != gen || n > MaxEntry || int64(len(b)) < entrySize+int64(n) {
		return p, 0, false
	}
	if crc32.Checksum(b[4:entrySize+n], castagnoli) != binary.BigEndian.Uint32(b) {
		return p, 0, false
	}
	p.seq = binary.BigEndian.Uint64(b[16:])
	p.N = binary.BigEndian.Uint64(b[24:])
	p.batch = binary.BigEndian.Uint64(b[32:])
	copy(p.Stream[:], b[40:56])
	p.Kind = Kind(b[56])
	p.left = binary.BigEndian.Uint32(b[60:])
	p.Data = b[entrySize : entrySize+n : entrySize+n]
	return p, room(int(n)), true
}

// window reads a file forward in pieces, so that a scan needs no copy of the segment.
type window struct {
	f    File
	end  int64
	off  int64 // of b[0]
	b    []byte
	size int
}

func newWindow(f File, end int64) *window { return &window{f: f, end: end, size: 4 << 20} }

// at gives the bytes from off on: at least an entry's, if the file has them.
func (w *window) at(off int64, need int) ([]byte, error) {
	if off >= w.off && off+int64(need) <= w.off+int64(len(w.b)) {
		return w.b[off-w.off:], nil
	}
	n := min(int64(max(w.size, need)), w.end-off)
	if n <= 0 {
		return nil, nil
	}
	if int64(cap(w.b)) < n {
		w.b = make([]byte, n)
	}
	w.b, w.off = w.b[:n], off
	m, err := w.f.ReadAt(w.b, off)
	if err == io.EOF && int64(m) == n {
		err = nil
	}
	if err != nil {
		w.b = nil
		return nil, err
	}
	return w.b, nil
}
