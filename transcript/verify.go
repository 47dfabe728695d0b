package transcript

import (
	"fmt"
	"io"
	"time"
)

// VerifyOptions says what a stream is held against.
type VerifyOptions struct {
	// Key opens the seals; nil verifies the sealed stream.
	Key *Key
	// Heads were anchored while the session ran: the chain must pass through each.
	Heads []Head
	// Bytes says, by frames, how long the stream was there as far as that was anchored too.
	Bytes map[uint64]int64
	// Final, if not nil, is the head with which the stream must end.
	Final *Head
}

// Result is what Verify found. With an error it says how far everything was right.
type Result struct {
	Header  Header
	Head    Head
	Records uint64
	Bytes   int64 // of the frames that were right
	Ended   bool  // has an END: with a key or a final head, that is proven
	Opened  bool  // seals and events were checked too

	// Only when opened:
	Until    time.Duration // the last event
	BytesIn  uint64
	BytesOut uint64
	End      *End // nil if the recorder died, or is still at work
}

// Verify reads a whole stream. A stream without END is no error: Ended tells.
func Verify(r io.Reader, o VerifyOptions) (Result, error) {
	var res Result
	rd, err := NewReader(r)
	if err != nil {
		return res, err
	}
	res.Header, res.Head, res.Bytes = rd.Header(), rd.Head(), rd.Offset()
	want := make(map[uint64]Hash, len(o.Heads)+1)
	expect := func(h Head) error {
		if have, ok := want[h.Frames]; ok && have != h.Chain || h.Frames == 0 {
			return fmt.Errorf("%w: anchored heads for %d frames disagree", ErrChain, h.Frames)
		}
		want[h.Frames] = h.Chain
		return nil
	}
	for _, h := range o.Heads {
		if err := expect(h); err != nil {
			return res, err
		}
	}
	if o.Final != nil {
		if err := expect(*o.Final); err != nil {
			return res, err
		}
	}
	met := 0
	check := func(h Head, off, end int64) error {
		if o.Final != nil && h.Frames > o.Final.Frames {
			return &FrameError{h.Frames - 1, off, fmt.Errorf("%w: stream goes on after its final head", ErrSequence)}
		}
		if c, ok := want[h.Frames]; ok {
			if c != h.Chain {
				return &FrameError{h.Frames - 1, off, ErrChain}
			}
			if n, ok := o.Bytes[h.Frames]; ok && n != end {
				return &FrameError{h.Frames - 1, off, fmt.Errorf("%w: ends at byte %d, anchored was %d", ErrChain, end, n)}
			}
			met++
		}
		return nil
	}
	if err := check(res.Head, 0, res.Bytes); err != nil {
		return res, err
	}
	if o.Key != nil {
		if err := rd.Unlock(*o.Key); err != nil {
			return res, err
		}
		res.Opened = true
	}
	for {
		f, err := rd.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return res, err
		}
		if err := check(f.Head, f.Offset, rd.Offset()); err != nil {
			return res, err
		}
		for _, e := range f.Events {
			switch e.Kind {
			case KindInput:
				res.BytesIn += uint64(len(e.Data))
			case KindOutput, KindStderr:
				res.BytesOut += uint64(len(e.Data))
			}
		}
		if e := f.End; e != nil && (e.BytesIn != res.BytesIn || e.BytesOut != res.BytesOut) {
			return res, &FrameError{f.N, f.Offset, fmt.Errorf("%w: end says %d bytes in and %d out, the stream holds %d and %d",
				ErrEvent, e.BytesIn, e.BytesOut, res.BytesIn, res.BytesOut)}
		}
		res.Head, res.Records, res.Bytes = f.Head, rd.Records(), rd.Offset()
		res.Ended, res.Until, res.End = rd.Ended(), rd.Last(), f.End
	}
	if met != len(want) {
		return res, &FrameError{res.Head.Frames, res.Bytes, fmt.Errorf("%w: %d frames; a later head is anchored", ErrTruncated, res.Head.Frames)}
	}
	return res, nil
}
