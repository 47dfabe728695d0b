package transcript

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Limits of a Folder. A reader takes more (MaxChunk).
const (
	// MaxFold bounds what one Fold takes, so that even data that zstd can't shrink fits a frame.
	MaxFold = 960 << 10
	// keyEvery is how much text, and keyAfter how long a time, may lie between two chunks at which a reader can start.
	keyEvery = 1 << 20
	keyAfter = time.Minute
	// foldWindow is zstd's memory of what it saw; 128 KiB costs 600 KiB a session.
	foldWindow = 128 << 10
	// gainShare: a chunk has to save an eighth of what it replaces, or it isn't worth its way.
	gainShare = 8
)

// ErrNoGain: the records would hardly be smaller folded. They go into the stream as they are.
var ErrNoGain = errors.New("folding saves nothing")

// Folder folds sealed records into compressed chunks, behind the journal and off the session's path. It has its own
// numbers, and the session's key until Close. It may be used from many goroutines, but what it gives goes into the stream in order.
//
// What it gives replaces those records in the stream. After an error other than ErrNoGain it is closed; the records that it hasn't folded
// then go into the stream as they are.
type Folder struct {
	mu    sync.Mutex
	s     *sealer
	seq   uint64
	next  uint64 // number of the next record to fold
	any   bool
	since int       // bytes of text since the last KEY
	keyed time.Time // when that was
	cold  bool      // nothing that was compressed before is known any more
	enc   *zstd.Encoder
	z     bytes.Buffer
	text  []byte
}

// encoders are between two sessions, or two of their bursts: making one costs more than folding what a person types in a minute. One that is reset knows
// nothing of what it saw.
var encoders = sync.Pool{New: func() any {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(foldWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // the options are constants
	}
	return enc
}}

// Folder gives the stream's folder: once, since two would seal under the same numbers. From then on the Writer keeps no Head: what the stream is, is
// up to whoever folds.
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
	return &Folder{s: w.s}, nil
}

// Fold gives one chunk frame that holds the records of the given frames, which must be whole RECORD frames of this stream,
// in order. Records may be passed over (they went into the stream as they are), never gone back to. The frame is good until the next call.
func (f *Folder) Fold(frames [][]byte) (chunk []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
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
		if err != nil && !errors.Is(err, ErrNoGain) {
			f.close()
		}
	}()
	text := f.text[:0]
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
		text = binary.AppendUvarint(text, uint64(len(body)-clearRecord-overhead))
		if text, err = f.s.appendOpen(text, TypeRecord, body, clearRecord); err != nil {
			return nil, fmt.Errorf("folding record %d: %w", n, err)
		}
		f.next, f.any = n+1, true
	}
	f.text = text[:0]
	if cap(f.text) > foldKeep {
		f.text = nil
	}

	var flags byte
	const before = frameHead + clearChunk + 8 // what stands in front of z
	if f.z.Cap() > foldKeep {
		f.z = bytes.Buffer{}
	}
	f.z.Reset()
	f.z.Write(make([]byte, before))
	if f.seq == 0 || f.cold || f.enc == nil || f.since+len(text) > keyEvery || time.Since(f.keyed) >= keyAfter {
		flags, f.since, f.keyed, f.cold = flagKey, 0, time.Now(), false
		if f.enc == nil {
			f.enc = encoders.Get().(*zstd.Encoder)
		}
		f.enc.Reset(&f.z) // the frame before stays without its end: its reader is told by KEY
	}
	f.since += len(text)
	if _, err := f.enc.Write(text); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	if err := f.enc.Flush(); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	if f.z.Len()+overhead > size-size/gainShare {
		f.cold = true // the reader will never see this; nothing was sealed, and no number taken
		f.rest()
		return nil, ErrNoGain
	}
	b := f.z.Bytes()
	zlen := len(b) - before
	clear := b[frameHead:]
	binary.BigEndian.PutUint64(clear, f.seq)
	f.seq++
	binary.BigEndian.PutUint64(clear[8:], first)
	binary.BigEndian.PutUint32(clear[16:], uint32(len(frames)))
	clear[20] = flags
	binary.BigEndian.PutUint32(clear[21:], uint32(len(text)))
	binary.BigEndian.PutUint32(clear[25:], uint32(zlen))
	return f.s.sealFrame(TypeChunk, b, clearChunk)
}

// foldKeep is the largest buffer that a Folder keeps between two chunks.
const foldKeep = 64 << 10

// Rest gives back what a Folder needs while it is busy; the next chunk is one at which a reader can start.
func (f *Folder) Rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest()
}

func (f *Folder) rest() {
	if f.enc != nil {
		f.enc.Reset(nil)
		encoders.Put(f.enc)
		f.enc = nil
	}
	f.z, f.text = bytes.Buffer{}, nil
}

// Close forgets the key.
func (f *Folder) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

func (f *Folder) close() {
	f.s = nil
	f.rest()
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
