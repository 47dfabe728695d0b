package transcript

import (
	"encoding/binary"
	"fmt"
	"time"
)

// FrameType is a frame's type byte.
type FrameType byte

const (
	TypeHeader FrameType = 1
	TypeChunk  FrameType = 2
	TypeEnd    FrameType = 3
	TypeRecord FrameType = 4
)

func (t FrameType) String() string {
	switch t {
	case TypeHeader:
		return "header"
	case TypeChunk:
		return "chunk"
	case TypeEnd:
		return "end"
	case TypeRecord:
		return "record"
	}
	return fmt.Sprintf("type %d", byte(t))
}

// clear bytes of each type's body, before its sealed part.
const (
	clearRecord = 8             // number
	clearChunk  = 8 + 8 + 4 + 1 // seq, first, count, flags
	clearEnd    = 8             // records
)

// flagKey: the chunk begins a zstd frame.
const flagKey = 1

// End is what the recorder says at the end. Only the holder of the key can say it.
type End struct {
	Reason   string `json:"reason"`
	Exit     *int   `json:"exit,omitempty"`
	Records  uint64 `json:"records"`
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
	TEnd     int64  `json:"t_end_us"`
}

// Duration is the session's length by the monotonic clock.
func (e End) Duration() time.Duration { return time.Duration(e.TEnd) * time.Microsecond }

// Frame is one frame after the header, as a Reader found it.
type Frame struct {
	Type   FrameType
	N      uint64 // number in the stream; the header is 0
	Offset int64  // where it begins
	Raw    []byte // the whole frame, valid until the next call
	Head   Head   // of the chain with this frame

	First, Count uint64 // the records it holds; for END, First is how many went before

	Events []Event // of an unlocked Reader
	End    *End    // of an unlocked Reader, for END
}

// frameHeader splits a raw frame that is known to be whole.
func frameHeader(raw []byte) (FrameType, []byte) { return FrameType(raw[4]), raw[5:] }

// SplitFrame cuts the first whole frame off b: journals and stores handle frames without looking into them. ok is false
// if b holds no whole frame.
func SplitFrame(b []byte) (frame, rest []byte, ok bool) {
	if len(b) < 5 {
		return nil, b, false
	}
	n := binary.BigEndian.Uint32(b)
	if n < 1 || n > MaxFrame || uint64(n) > uint64(len(b)-4) {
		return nil, b, false
	}
	return b[: 4+n : 4+n], b[4+n:], true
}
