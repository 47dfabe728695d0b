// Package ship brings finished recordings from the jump's journal to the store.
//
// Guarantees, to the reviewer: a recording leaves the journal only when the store said that it holds the whole stream under the head
// that a signed fact names. Until then it is tried for ever, from where the store says it stopped, also after a restart.
//
// A session's stream in the journal is: the HEADER frame, the envelope, RECORD frames, an END frame if the session ended
// properly, and a mark with the number of the fact that told its end.
package ship

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// Kinds of a session's journal entries.
const (
	KindFrame    journal.Kind = 1 // a whole frame
	KindEnvelope journal.Kind = 2
	KindTold     journal.Kind = 3 // u64: the number of the fact that told the end
)

const (
	// piece is what one upload holds: below api.MaxPiece, since a frame is never larger either.
	piece = 512 << 10
	// callTimeout bounds one upload.
	callTimeout = 30 * time.Second
	// maxWait is the longest pause between attempts.
	maxWait = 10 * time.Second
	// workers bounds how many recordings are uploaded at once, so that running sessions keep the line.
	workers = 4
)

// Store takes recordings. A piece that lies below the store's size, with the same bytes, is no error.
type Store interface {
	TranscriptSize(ctx context.Context, s name.SessionID) (*api.Size, error)
	PutTranscript(ctx context.Context, s name.SessionID, offset int64, piece []byte) (*api.Size, error)
	PutEnvelope(ctx context.Context, s name.SessionID, envelope []byte) error
	FinishTranscript(ctx context.Context, s name.SessionID, ask *api.FinishAsk) error
}

// Facts says when the CA has a fact: only then does it take the head that the fact names.
type Facts interface {
	WaitAcked(ctx context.Context, number int64) error
}

// Config says from where and to where.
type Config struct {
	Journal *journal.Journal
	Store   Store
	Facts   Facts
	Logger  *slog.Logger
}

// Shipper works until its context ends.
type Shipper struct {
	cfg  Config
	ctx  context.Context
	room chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	left int
}

// New makes a Shipper whose uploads end with ctx.
func New(ctx context.Context, cfg Config) *Shipper {
	return &Shipper{cfg: cfg, ctx: ctx, room: make(chan struct{}, workers)}
}

// Left is how many recordings are still here.
func (s *Shipper) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

// Wait returns when all uploads have ended, by success or by the context.
func (s *Shipper) Wait() { s.wg.Wait() }

// Ship uploads the stream in the background and forgets it. Its end must have been told by a fact.
func (s *Shipper) Ship(sid journal.SID) {
	s.mu.Lock()
	s.left++
	s.mu.Unlock()
	s.wg.Go(func() {
		wait := backoff.NewExponentialBackOff()
		wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, maxWait
		for {
			err := s.attempt(sid)
			if err == nil {
				s.mu.Lock()
				s.left--
				s.mu.Unlock()
				return
			}
			if s.ctx.Err() != nil {
				return
			}
			s.cfg.Logger.Warn("recording not stored yet", "stream", sid, "error", err)
			select {
			case <-time.After(wait.NextBackOff()):
			case <-s.ctx.Done():
				return
			}
		}
	})
}

func (s *Shipper) attempt(sid journal.SID) error {
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	st, err := Inspect(s.cfg.Journal, sid)
	if err != nil {
		return err
	}
	if st.Told == 0 {
		return errors.New("the recording's end was not told")
	}
	if err := s.upload(st); err != nil {
		return fmt.Errorf("uploading %s: %w", st.Header.Session, err)
	}
	return s.cfg.Journal.Forget(sid)
}

func (s *Shipper) upload(st *Stream) error {
	id := st.Header.Session
	call := func(f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
		defer cancel()
		return f(ctx)
	}
	var have *api.Size
	if err := call(func(ctx context.Context) (err error) {
		have, err = s.cfg.Store.TranscriptSize(ctx, id)
		return err
	}); err != nil {
		return err
	}
	if have.Size > st.Head.Bytes {
		return fmt.Errorf("the store has %d bytes of %d", have.Size, st.Head.Bytes)
	}
	var buf bytes.Buffer
	at := int64(0) // stream offset behind what was read
	from := have.Size
	flush := func() error {
		if buf.Len() == 0 {
			return nil
		}
		err := call(func(ctx context.Context) error {
			_, err := s.cfg.Store.PutTranscript(ctx, id, from, buf.Bytes())
			return err
		})
		from += int64(buf.Len())
		buf.Reset()
		return err
	}
	for f, err := range frames(s.cfg.Journal, st.SID) {
		if err != nil {
			return err
		}
		skip := min(max(0, have.Size-at), int64(len(f))) // the store has it
		at += int64(len(f))
		for f = f[skip:]; len(f) > 0; {
			n := min(len(f), piece-buf.Len())
			buf.Write(f[:n])
			f = f[n:]
			if buf.Len() == piece {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	// A finished stream takes nothing more; but finishing is said again, for the entry may not have been written then.
	if !have.Finished {
		if err := call(func(ctx context.Context) error { return s.cfg.Store.PutEnvelope(ctx, id, st.Envelope) }); err != nil {
			return err
		}
	}
	if err := s.cfg.Facts.WaitAcked(s.ctx, st.Told); err != nil {
		return err
	}
	return call(func(ctx context.Context) error {
		return s.cfg.Store.FinishTranscript(ctx, id, &api.FinishAsk{Head: st.Head, SHA256: st.SHA256})
	})
}

// Stream is what the journal holds of a session.
type Stream struct {
	SID      journal.SID
	Header   transcript.Header
	Head     ledger.Head
	SHA256   statement.Hash
	Envelope []byte
	Ended    bool  // has its END
	Told     int64 // the fact that told its end; 0 if none did
}

// ErrNoStream says that the journal holds too little of a stream to be one: its recorder died before any channel was open.
var ErrNoStream = errors.New("no recording was begun")

// Inspect reads a session's stream as it stands in the journal.
func Inspect(j *journal.Journal, sid journal.SID) (*Stream, error) {
	st := &Stream{SID: sid}
	var head transcript.Head
	sum := sha256.New()
	first := true
	for e, err := range j.Read(sid) {
		if err != nil {
			return nil, err
		}
		if first && e.N != 0 {
			return nil, fmt.Errorf("%w: its beginning is gone", ErrNoStream)
		}
		switch e.Kind {
		case KindEnvelope:
			st.Envelope = e.Data
		case KindTold:
			if len(e.Data) != 8 {
				return nil, fmt.Errorf("stream %v: mark of %d bytes", sid, len(e.Data))
			}
			st.Told = int64(binary.BigEndian.Uint64(e.Data))
		case KindFrame:
			f, rest, ok := transcript.SplitFrame(e.Data)
			if !ok || len(rest) != 0 {
				return nil, fmt.Errorf("stream %v: entry %d is no frame", sid, e.N)
			}
			if first {
				r, err := transcript.NewReader(bytes.NewReader(f))
				if err != nil {
					return nil, fmt.Errorf("stream %v: %w", sid, err)
				}
				st.Header = r.Header()
			}
			st.Ended = transcript.FrameType(f[4]) == transcript.TypeEnd
			head = head.Add(f)
			sum.Write(f)
			st.Head.Bytes += int64(len(f))
		default:
			return nil, fmt.Errorf("stream %v: entry %d of unknown kind %#x", sid, e.N, byte(e.Kind))
		}
		first = false
	}
	if head.Frames == 0 || st.Envelope == nil {
		return st, ErrNoStream
	}
	st.Head.Frames, st.Head.Chain = int64(head.Frames), statement.Hash(head.Chain)
	st.SHA256 = statement.Hash(sum.Sum(nil))
	return st, nil
}

// Copy writes a session's frames as the stream that they are.
func Copy(w io.Writer, j *journal.Journal, sid journal.SID) error {
	for f, err := range frames(j, sid) {
		if err != nil {
			return err
		}
		if _, err := w.Write(f); err != nil {
			return err
		}
	}
	return nil
}

func frames(j *journal.Journal, sid journal.SID) func(func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		for e, err := range j.Read(sid) {
			if err == nil && e.Kind != KindFrame {
				continue
			}
			if !yield(e.Data, err) {
				return
			}
		}
	}
}

// Mark is the data of a KindTold entry.
func Mark(fact int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(fact)) }
