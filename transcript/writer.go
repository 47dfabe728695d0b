package transcript

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrClosed: the stream has ended, or an error closed it.
var ErrClosed = errors.New("transcript is closed")

// Writer seals one session's events into frames. It may be used from many goroutines.
//
// It keeps the promise on which AES-GCM stands: a number is taken before sealing and never set back. So it has no way to
// seal again: a frame that couldn't be stored is stored again as it is, or the stream ends there.
type Writer struct {
	mu     sync.Mutex
	s      *sealer // nil when closed
	h      Header
	first  []byte // header frame
	next   uint64 // number of the next record
	last   time.Duration
	in     uint64
	out    uint64
	head   Head
	err    error
	folder bool // was given out
}

// NewWriter begins a stream under a key drawn for it alone (NewKey). The caller fills Session, Jump, Origin, Person,
// Login, Host, Door, T0, Bind, Prev and Env, and SID unless it is to be drawn here.
//
// HeaderFrame and the envelope must be durable before the first record is.
func NewWriter(h Header, k Key) (*Writer, error) {
	h.V, h.AEAD, h.Comp, h.KC = Version, AEAD, Comp, k.Commitment()
	if h.SID == (SID{}) {
		rand.Read(h.SID[:])
	}
	body, err := h.encode()
	if err != nil {
		return nil, err
	}
	if len(body) > MaxHeader {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrHeader, len(body), MaxHeader)
	}
	f := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))
	f = append(f, byte(TypeHeader))
	f = append(f, body...)
	head := Head{}.Add(f)
	return &Writer{s: newSealer(k, head.Chain), h: h, first: f, head: head}, nil
}

// Header is the header as it was written.
func (w *Writer) Header() Header { return w.h }

// HeaderFrame is the stream's first frame.
func (w *Writer) HeaderFrame() []byte { return w.first }

// Head is the chain over the header and all frames that this Writer gave out: the stream's, where no Folder was taken.
func (w *Writer) Head() Head {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.head
}

// Seal gives the next record's frame. Frames must reach the journal in the order of their numbers: callers that seal
// from several goroutines use SealTo.
func (w *Writer) Seal(events []Event) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seal(events)
}

// SealTo seals and calls put with the frame before any other frame can be sealed, so that put sees frames in order. put
// hands the frame on and doesn't wait (journal.AppendAsync). An error of put closes the stream: its number is taken, so
// there would be a hole.
func (w *Writer) SealTo(events []Event, put func(frame []byte) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.seal(events)
	if err != nil {
		return err
	}
	if err := put(f); err != nil {
		w.close(fmt.Errorf("%w: handing on a frame: %w", ErrClosed, err))
		return err
	}
	return nil
}

// largeFrame is what is made once and used again: bulk comes in reads of 256 KiB, and making and clearing that much for each costs more than sealing it.
const largeFrame = 260 << 10

var largeFrames = sync.Pool{New: func() any { return new([largeFrame]byte) }}

// newFrame gives an empty buffer with room for the events' frame.
func newFrame(events []Event) []byte {
	n := frameHead + clearRecord + overhead + binary.MaxVarintLen64
	for _, e := range events {
		n += 1 + 3*binary.MaxVarintLen64 + len(e.Data)
	}
	if n <= largeFrame/2 || n > largeFrame {
		return make([]byte, 0, n)
	}
	return largeFrames.Get().(*[largeFrame]byte)[:0]
}

// Release gives a frame of Seal or SealTo back when nobody reads it any more. It need not be called.
func Release(frame []byte) {
	if cap(frame) == largeFrame {
		largeFrames.Put((*[largeFrame]byte)(frame[:largeFrame]))
	}
}

func (w *Writer) seal(events []Event) ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	f, last, err := appendRecord(newFrame(events)[:frameHead+clearRecord], events, w.last)
	if err != nil {
		// Nothing was sealed and no number taken, but what should have been recorded wasn't.
		w.close(fmt.Errorf("%w after: %w", ErrClosed, err))
		return nil, err
	}
	binary.BigEndian.PutUint64(f[frameHead:], w.next)
	w.next++
	f, err = w.s.sealFrame(TypeRecord, f, clearRecord)
	if err != nil {
		w.close(fmt.Errorf("%w after: %w", ErrClosed, err))
		return nil, err
	}
	w.last = last
	for _, e := range events {
		switch e.Kind {
		case KindInput:
			w.in += uint64(len(e.Data))
		case KindOutput, KindStderr:
			w.out += uint64(len(e.Data))
		}
	}
	w.chain(f)
	return f, nil
}

// chain is spared where a folder makes other frames of these: it costs as much as sealing them.
func (w *Writer) chain(f []byte) {
	if !w.folder {
		w.head = w.head.Add(f)
	}
}

// End seals the last frame and closes the Writer. t is the time since t0. exit is nil where the session had no exit
// status.
func (w *Writer) End(reason string, exit *int, t time.Duration) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	t = max(t, w.last)
	plain, err := json.Marshal(End{Reason: reason, Exit: exit, Records: w.next, BytesIn: w.in, BytesOut: w.out, TEnd: t.Microseconds()})
	if err == nil && len(plain) > MaxEnd {
		err = fmt.Errorf("%w: end of %d bytes, at most %d", ErrFrame, len(plain), MaxEnd)
	}
	var f []byte
	if err == nil {
		var clear [clearEnd]byte
		binary.BigEndian.PutUint64(clear[:], w.next)
		f, err = w.s.frame(TypeEnd, clear[:], plain)
	}
	w.close(ErrClosed)
	if err != nil {
		return nil, err
	}
	w.chain(f)
	return f, nil
}

// Close forgets the key without an end, as a crash would.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.close(ErrClosed)
}

func (w *Writer) close(err error) {
	if w.err == nil {
		w.err = err
	}
	w.s = nil
}
