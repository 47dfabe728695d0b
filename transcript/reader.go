package transcript

import (
	"bufio"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
)

// Reader reads a stream and checks its structure and numbers; unlocked, also every seal and event. What it returns was
// checked. After an error it returns nothing more.
type Reader struct {
	r      *bufio.Reader
	buf    []byte
	h      Header
	first  []byte
	head   Head
	offset int64
	s      *sealer
	un     unfolder
	next   uint64 // number of the next record
	seq    uint64 // number of the next chunk
	last   time.Duration
	ended  bool
	err    error
}

// NewReader reads the header. It doesn't close r.
func NewReader(r io.Reader) (*Reader, error) {
	rd := &Reader{r: bufio.NewReaderSize(r, 64<<10)}
	raw, err := rd.frame()
	if err == io.EOF {
		err = ErrTruncated
	}
	if err != nil {
		return nil, &FrameError{Err: err}
	}
	t, body := frameHeader(raw)
	if t != TypeHeader {
		return nil, &FrameError{Err: fmt.Errorf("%w: begins with %v, not a header", ErrFrame, t)}
	}
	if rd.h, err = parseHeader(body); err != nil {
		return nil, &FrameError{Err: err}
	}
	rd.first = append([]byte(nil), raw...)
	rd.head = rd.head.Add(raw)
	rd.offset = int64(len(raw))
	return rd, nil
}

// Header is the stream's header. Without a head or a key nothing yet proves it.
func (r *Reader) Header() Header { return r.h }

// HeaderFrame is the first frame as it stands.
func (r *Reader) HeaderFrame() []byte { return r.first }

// Head is the chain over the frames read so far.
func (r *Reader) Head() Head { return r.head }

// Records is how many records were read so far, as RECORDs and in CHUNKs.
func (r *Reader) Records() uint64 { return r.next }

// Offset is how many bytes the frames read so far take: after ErrTruncated, where the torn tail begins.
func (r *Reader) Offset() int64 { return r.offset }

// Last is the time of the last event read by an unlocked Reader.
func (r *Reader) Last() time.Duration { return r.last }

// Ended says whether END was read.
func (r *Reader) Ended() bool { return r.ended }

// Unlock lets Next open what is sealed. It must come before the first Next.
func (r *Reader) Unlock(k Key) error {
	if r.head.Frames != 1 {
		return errors.New("unlocking a stream that is being read already")
	}
	if c := k.Commitment(); subtle.ConstantTimeCompare(c[:], r.h.KC[:]) != 1 {
		return &FrameError{Err: ErrKey}
	}
	r.s = newSealer(k, r.head.Chain)
	return nil
}

// Next gives the next frame. io.EOF is the end of a whole stream: Ended says whether its recorder ended it.
func (r *Reader) Next() (*Frame, error) {
	if r.err != nil {
		return nil, r.err
	}
	f, err := r.read()
	if err != nil {
		if err != io.EOF {
			err = &FrameError{Frame: r.head.Frames, Offset: r.offset, Err: err}
		}
		r.err = err
		r.un.close()
		return nil, err
	}
	return f, nil
}

// frame reads one frame into buf.
func (r *Reader) frame() ([]byte, error) {
	var l [4]byte
	if _, err := io.ReadFull(r.r, l[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			return nil, ErrTruncated
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(l[:])
	if n < 1 || n > MaxFrame {
		return nil, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	if cap(r.buf) < int(4+n) {
		r.buf = make([]byte, 4+n)
	}
	b := r.buf[:4+n]
	copy(b, l[:])
	if _, err := io.ReadFull(r.r, b[4:]); err != nil {
		if err == io.ErrUnexpectedEOF || err == io.EOF {
			return nil, ErrTruncated
		}
		return nil, err
	}
	return b, nil
}

func (r *Reader) read() (*Frame, error) {
	raw, err := r.frame()
	if err != nil {
		return nil, err
	}
	if r.ended {
		return nil, fmt.Errorf("%w: something follows the end", ErrSequence)
	}
	t, body := frameHeader(raw)
	f := &Frame{Type: t, N: r.head.Frames, Offset: r.offset, Raw: raw}
	switch t {
	case TypeRecord:
		err = r.record(f, body)
	case TypeChunk:
		err = r.chunk(f, body)
	case TypeEnd:
		err = r.end(f, body)
	case TypeHeader:
		err = fmt.Errorf("%w: second header", ErrFrame)
	default:
		err = fmt.Errorf("%w: %v", ErrFrame, t)
	}
	if err != nil {
		return nil, err
	}
	r.head = r.head.Add(raw)
	r.offset += int64(len(raw))
	f.Head = r.head
	return f, nil
}

// take demands that the records first … first+count-1 come next.
func (r *Reader) take(f *Frame, first, count uint64) error {
	if first != r.next || count == 0 || count > math.MaxUint64-first {
		return fmt.Errorf("%w: records %d+%d where %d comes next", ErrSequence, first, count, r.next)
	}
	f.First, f.Count = first, count
	r.next = first + count
	return nil
}

func (r *Reader) record(f *Frame, body []byte) error {
	if len(body) < clearRecord+overhead {
		return fmt.Errorf("%w: record of %d bytes", ErrFrame, len(body))
	}
	if err := r.take(f, binary.BigEndian.Uint64(body), 1); err != nil || r.s == nil {
		return err
	}
	plain, err := r.s.open(TypeRecord, body, clearRecord)
	if err != nil {
		return err
	}
	f.Events, r.last, err = parseRecord(plain, r.last)
	return err
}

func (r *Reader) chunk(f *Frame, body []byte) error {
	if len(body) < clearChunk+overhead {
		return fmt.Errorf("%w: chunk of %d bytes", ErrFrame, len(body))
	}
	p := parser{b: body}
	seq := binary.BigEndian.Uint64(p.take(8))
	first := binary.BigEndian.Uint64(p.take(8))
	count := uint64(p.u32())
	flags := p.u8()
	if seq != r.seq {
		return fmt.Errorf("%w: chunk %d where %d comes next", ErrSequence, seq, r.seq)
	}
	if flags&^flagKey != 0 || seq == 0 && flags&flagKey == 0 {
		return fmt.Errorf("%w: chunk flags %#02x", ErrFrame, flags)
	}
	r.seq++
	if err := r.take(f, first, count); err != nil || r.s == nil {
		return err
	}
	plain, err := r.s.open(TypeChunk, body, clearChunk)
	if err != nil {
		return err
	}
	recs, err := r.un.unfold(plain, flags, count)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		var es []Event
		if es, r.last, err = parseRecord(rec, r.last); err != nil {
			return err
		}
		f.Events = append(f.Events, es...)
	}
	return nil
}

func (r *Reader) end(f *Frame, body []byte) error {
	if len(body) < clearEnd+overhead || len(body) > clearEnd+overhead+MaxEnd {
		return fmt.Errorf("%w: end of %d bytes", ErrFrame, len(body))
	}
	f.First = binary.BigEndian.Uint64(body)
	if f.First != r.next {
		return fmt.Errorf("%w: end after %d records, %d were read", ErrSequence, f.First, r.next)
	}
	r.ended = true
	if r.s == nil {
		return nil
	}
	plain, err := r.s.open(TypeEnd, body, clearEnd)
	if err != nil {
		return err
	}
	var e End
	if err := strict(plain, &e); err != nil {
		return fmt.Errorf("%w: end: %w", ErrEvent, err)
	}
	if e.Records != r.next || e.TEnd < r.last.Microseconds() || e.TEnd > maxTime.Microseconds() {
		return fmt.Errorf("%w: end does not fit its stream", ErrEvent)
	}
	f.End = &e
	return nil
}

// Events gives all events of an unlocked Reader that hasn't been read yet, then the error that stopped it, if one did.
func (r *Reader) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if r.s == nil {
			yield(Event{}, ErrKey)
			return
		}
		for {
			f, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, e := range f.Events {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}
