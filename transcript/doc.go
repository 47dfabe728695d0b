// Package transcript is the recording of a session: its format, who can read it, and where it lies.
//
// FORMAT.md beside this file specifies format v1 byte by byte.
//
// Guarantees.
//
// To the person recorded and to the reviewer: a stream holds the exact bytes of every direction of every channel. Each
// record is sealed under a key that only the session's recipients can obtain, and all of them see the same text (key
// commitment).
//
// To the auditor: given a head (frame count and chain value) from the ledger, Verify finds every changed, missing, repeated,
// swapped or added byte before that head, without any key; given the key it finds them without a head too, but for
// frames cut off the end of a stream that has no END.
//
// To the recorder: a Writer never seals two plaintexts under one nonce, whatever fails. After an error it is closed.
//
// Nothing in a stream is trusted by a Reader before it is checked, and what it allocates is bounded by the limits below,
// whatever the stream says.
package transcript

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// label separates our hashes and seals from every other use of the same functions.
const label = "breakglass transcript v1\x00"

// Limits of format v1. They bound what a hostile stream can make a reader allocate.
const (
	// MaxFrame bounds type and body of a frame.
	MaxFrame = 1 << 20
	// MaxHeader bounds a header's JSON; real ones are about 1 KiB.
	MaxHeader = 16 << 10
	// MaxRecord bounds a record's plaintext; the jump reads at most 256 KiB at once.
	MaxRecord = 512 << 10
	// MaxChunk bounds what a chunk unpacks to, so that a few KiB can't become gigabytes.
	MaxChunk = 4 << 20
	// MaxEnd bounds END's JSON.
	MaxEnd = 4 << 10
	// maxWindow bounds the zstd window, and with it a reader's memory.
	maxWindow = 1 << 20
)

// Errors that callers and Verify tell apart. They come wrapped in *FrameError.
var (
	// ErrTruncated: the stream ends within a frame (a torn tail), or before the head that it should reach.
	ErrTruncated = errors.New("stream ends too early")
	// ErrFrame: a length or type that v1 doesn't have, or one that stands where it must not.
	ErrFrame = errors.New("not a frame of format v1")
	// ErrHeader: the header is not one of format v1.
	ErrHeader = errors.New("bad header")
	// ErrSequence: a record or chunk is missing, repeated or out of place, or something follows the end.
	ErrSequence = errors.New("frames missing, repeated or out of order")
	// ErrChain: the frames are not those whose chain value was expected.
	ErrChain = errors.New("chain does not match")
	// ErrSeal: a sealed part was changed, or was never sealed under this key.
	ErrSeal = errors.New("seal broken")
	// ErrKey: the key is not the one that the header commits to.
	ErrKey = errors.New("not this session's key")
	// ErrEnvelope: the envelope is not the one that the header names, or holds no key.
	ErrEnvelope = errors.New("bad envelope")
	// ErrEvent: a sealed part opened, but doesn't hold well-formed events: its recorder was broken.
	ErrEvent = errors.New("bad event")
)

// FrameError says where in a stream something is wrong.
type FrameError struct {
	Frame  uint64 // number of the frame, from 0
	Offset int64  // where it begins in the stream
	Err    error
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("frame %d at byte %d: %v", e.Frame, e.Offset, e.Err)
}
func (e *FrameError) Unwrap() error { return e.Err }

// Hash is a SHA-256 value; in JSON it is lower case hex.
type Hash [sha256.Size]byte

// SHA256 hashes b.
func SHA256(b []byte) Hash { return sha256.Sum256(b) }

func (h Hash) String() string               { return hex.EncodeToString(h[:]) }
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }
func (h *Hash) UnmarshalText(b []byte) error {
	return unhex(h[:], b)
}

// SID names a stream in the journal: 16 random bytes; in JSON lower case hex.
type SID [16]byte

func (s SID) String() string               { return hex.EncodeToString(s[:]) }
func (s SID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }
func (s *SID) UnmarshalText(b []byte) error {
	return unhex(s[:], b)
}

// unhex demands exactly len(dst) bytes in lower case: one value, one spelling.
func unhex(dst, b []byte) error {
	if len(b) != 2*len(dst) {
		return fmt.Errorf("want %d hex digits, got %d", 2*len(dst), len(b))
	}
	for _, c := range b {
		if c >= 'A' && c <= 'F' {
			return errors.New("hex digits must be lower case")
		}
	}
	_, err := hex.Decode(dst, b)
	return err
}

// Head is the state of a chain after Frames frames. It is what the ledger anchors.
type Head struct {
	Frames uint64 `json:"frames"`
	Chain  Hash   `json:"chain"`
}

// Add is the head after one more whole frame.
func (h Head) Add(frame []byte) Head {
	d := sha256.New()
	d.Write([]byte(label))
	d.Write(h.Chain[:]) // 0^32 before the first frame
	d.Write(frame)
	n := Head{Frames: h.Frames + 1}
	d.Sum(n.Chain[:0])
	return n
}
