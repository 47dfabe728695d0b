package transcript

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Limits of a Folder. A reader takes more (MaxChunk).
const (
	// MaxFold bounds what one Fold takes, so that even data that zstd can't shrink fits a frame.
	MaxFold = 960 << 10
	// keyEvery is how much text may lie between two chunks at which a reader can start.
	keyEvery = 1 << 20
	// foldWindow is zstd's memory of what it saw; 128 KiB costs 600 KiB a session.
	foldWindow = 128 << 10
)

// Folder folds sealed records into compressed chunks, behind the journal and off the session's path. It has its own
// numbers, and the session's key until Close. It is used by one goroutine.
//
// What it gives replaces those records in the stream. After an error it is closed; the records that it hasn't folded then
// go into the stream as they are.
type Folder struct {
	s     *sealer
	seq   uint64
	next  uint64 // number of the next record to fold
	any   bool
	since int // bytes since the last KEY
	enc   *zstd.Encoder
	z     bytes.Buffer
}

// Folder gives the stream's folder: once, since two would seal under the same numbers.
func (w *Writer) Folder() (*Folder, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if w.folder {
		return nil, errors.New("transcript has a folder already")
	}
	w.folder = true
	f := &Folder{s: w.s}
	enc, err := zstd.NewWriter(&f.z, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(foldWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("starting zstd: %w", err)
	}
	f.enc = enc
	return f, nil
}

// Fold gives one chunk frame that holds the records of the given frames, which must be whole RECORD frames of this stream,
// in order. Records may be passed over (they went into the stream as they are), never gone back to.
func (f *Folder) Fold(frames [][]byte) (chunk []byte, err error) {
	if f.s == nil {
		return nil, ErrClosed
	}
	if len(frames) == 0 {
		return nil, errors.New("nothing to fold")
	}
	var size int
	for _, r := range frames {
		size += len(r)
	}
	if size > MaxFold {
		return nil, fmt.Errorf("folding %d bytes, at most %d", size, MaxFold) // nothing taken: the caller may try with fewer
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var text []byte
	var first uint64
	for i, r := range frames {
		whole, rest, ok := SplitFrame(r)
		if !ok || len(rest) > 0 {
			return nil, fmt.Errorf("folding: %w", ErrFrame)
		}
		t, body := frameHeader(whole)
		if t != TypeRecord || len(body) < clearRecord+overhead {
			return nil, fmt.Errorf("folding: %w: %v", ErrFrame, t)
		}
		n := binary.BigEndian.Uint64(body)
		switch {
		case i == 0 && f.any && n < f.next, i > 0 && n != f.next:
			return nil, fmt.Errorf("folding record %d after %d: %w", n, f.next-1, ErrSequence)
		case i == 0:
			first = n
		}
		plain, err := f.s.open(TypeRecord, body, clearRecord)
		if err != nil {
			return nil, fmt.Errorf("folding record %d: %w", n, err)
		}
		text = binary.AppendUvarint(text, uint64(len(plain)))
		text = append(text, plain...)
		f.next, f.any = n+1, true
	}

	var flags byte
	f.z.Reset()
	if f.seq == 0 || f.since+len(text) > keyEvery {
		flags, f.since = flagKey, 0
		f.enc.Reset(&f.z) // the frame before stays without its end: its reader is told by KEY
	}
	f.since += len(text)
	if _, err := f.enc.Write(text); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	if err := f.enc.Flush(); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	plain := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	plain = binary.BigEndian.AppendUint32(plain, uint32(f.z.Len()))
	plain = append(plain, f.z.Bytes()...)

	clear := binary.BigEndian.AppendUint64(nil, f.seq)
	f.seq++
	clear = binary.BigEndian.AppendUint64(clear, first)
	clear = binary.BigEndian.AppendUint32(clear, uint32(len(frames)))
	clear = append(clear, flags)
	return f.s.frame(TypeChunk, clear, plain)
}

// Close forgets the key.
func (f *Folder) Close() {
	if f.s == nil {
		return
	}
	f.s = nil
	f.enc.Reset(nil)
	f.enc.Close()
}

// unfolder is the reader's side: it goes on with a zstd frame from chunk to chunk.
type unfolder struct {
	dec  *zstd.Decoder
	feed feed
}

// feed hands the decoder one chunk's bytes at a time. The decoder never has cause to ask for more than it was given: a
// flush ends its block.
type feed struct{ b []byte }

var errStarved = errors.New("compressed data ends too early")

func (f *feed) Read(p []byte) (int, error) {
	if len(f.b) == 0 {
		return 0, errStarved
	}
	n := copy(p, f.b)
	f.b = f.b[n:]
	return n, nil
}

// unfold gives the records' plaintexts of a chunk.
func (u *unfolder) unfold(plain []byte, flags byte, count uint64) ([][]byte, error) {
	p := parser{b: plain}
	size, zlen := p.u32(), p.u32()
	if p.bad || size > MaxChunk || uint64(zlen) > uint64(len(p.b)) {
		return nil, fmt.Errorf("%w: chunk sizes", ErrEvent)
	}
	z := p.take(int(zlen))
	for _, c := range p.b {
		if c != 0 {
			return nil, fmt.Errorf("%w: padding", ErrEvent)
		}
	}
	if flags&flagKey == 0 && u.dec == nil {
		return nil, fmt.Errorf("%w: chunk goes on with nothing", ErrEvent)
	}
	u.feed.b = z
	if u.dec == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return nil, fmt.Errorf("starting zstd: %w", err)
		}
		u.dec = d
	}
	if flags&flagKey != 0 {
		if err := u.dec.Reset(&u.feed); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEvent, err)
		}
	}
	text := make([]byte, size)
	for n := 0; n < len(text); {
		m, err := u.dec.Read(text[n:])
		n += m
		if err != nil && n < len(text) {
			return nil, fmt.Errorf("%w: %w", ErrEvent, err)
		}
	}
	if len(u.feed.b) != 0 {
		return nil, fmt.Errorf("%w: compressed data left over", ErrEvent)
	}
	p = parser{b: text}
	var recs [][]byte
	for range count {
		n := p.uvarint()
		if p.bad || n > uint64(len(p.b)) {
			return nil, fmt.Errorf("%w: chunk holds fewer records than it names", ErrEvent)
		}
		recs = append(recs, p.take(int(n)))
	}
	if !p.done() {
		return nil, fmt.Errorf("%w: chunk holds more records than it names", ErrEvent)
	}
	return recs, nil
}

func (u *unfolder) close() {
	if u.dec != nil {
		u.dec.Close()
		u.dec = nil
	}
}
