package ship

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// Stream is a session's stream as far as it is known: by what the journal holds, and by a mark for what went from it to the store.
type Stream struct {
	SID     journal.SID
	Session name.SessionID
	// Envelope is its hash.
	Envelope statement.Hash
	Head     ledger.Head // of the whole
	Ended    bool        // has its END
	Told     int64       // the fact that told its end; 0 if none did

	from Shipped // where the journal's part begins: zero at its first entry
	plan []cover // behind that
	left int64   // bytes of the journal's frames behind that
	// found says that all this was read in the journal.
	found bool
}

// ErrNoStream says that the journal holds too little of a stream to be one: its recorder died before any channel was open, or all of it is stored.
var ErrNoStream = errors.New("no recording was begun")

// Inspect reads a session's stream as it stands in the journal. Nobody may ship it meanwhile.
func Inspect(j *journal.Journal, sid journal.SID) (*Stream, error) {
	st := &Stream{SID: sid, found: true}
	fault := func(e journal.Entry, format string, a ...any) error {
		return fmt.Errorf("stream %v: entry %d %s", sid, e.N, fmt.Sprintf(format, a...))
	}
	// First what says where to begin: the newest mark. Entries that it covers may be here still.
	first, any := uint64(0), false
	for e, err := range j.Tail(sid, 0, make([]byte, window)) {
		if err != nil {
			return nil, err
		}
		if !any {
			first, any = e.N, true
		}
		switch e.Kind {
		case KindShipped:
			m, err := parseShipped(e.Data)
			if err != nil {
				return nil, fault(e, "is %v", err)
			}
			if m.Next > e.N || m.Next < st.from.Next {
				return nil, fault(e, "says that %d entries are stored, after %d", m.Next, st.from.Next)
			}
			st.from, st.Session, st.Envelope, st.Head = m, m.Session, m.Envelope, m.Head
		case KindTold:
			if len(e.Data) != 8 {
				return nil, fault(e, "is a mark of %d bytes", len(e.Data))
			}
			st.Told = int64(binary.BigEndian.Uint64(e.Data))
		case KindChunk:
			c, _, err := parseCover(e.N, e.Data)
			if err != nil {
				return nil, fmt.Errorf("stream %v: entry %d is %w", sid, e.N, err)
			}
			if n := len(st.plan); n > 0 && c.from < st.plan[n-1].to {
				return nil, fault(e, "holds records from entry %d on, after a chunk up to %d", c.from, st.plan[n-1].to)
			}
			st.plan = append(st.plan, c)
		case KindFrame, KindEnvelope:
		default:
			return nil, fault(e, "is of unknown kind %#x", byte(e.Kind))
		}
	}
	if first > st.from.Next {
		return nil, fmt.Errorf("%w: its beginning is gone", ErrNoStream)
	}
	for len(st.plan) > 0 && st.plan[0].to <= st.from.Next {
		st.plan = st.plan[1:]
	}
	if len(st.plan) > 0 && st.plan[0].from < st.from.Next {
		return nil, fmt.Errorf("stream %v: entry %d is a chunk of records from entry %d on, %d are stored", sid, st.plan[0].at, st.plan[0].from, st.from.Next)
	}
	head := transcript.Head{Frames: uint64(st.Head.Frames), Chain: transcript.Hash(st.Head.Chain)}
	sealed := st.from.Next > 0 // the envelope is there
	envelope := func(e journal.Entry) error {
		if e.Kind == KindEnvelope {
			st.Envelope, sealed = ledger.EntryHash(e.Data), true
		}
		return nil
	}
	for p, err := range walk(j, sid, st.from.Next, st.plan, make([]byte, window), envelope) {
		if err != nil {
			return nil, err
		}
		f, rest, ok := transcript.SplitFrame(p.frame)
		if !ok || len(rest) != 0 {
			return nil, fmt.Errorf("stream %v: entry %d is no frame", sid, p.entry)
		}
		if head.Frames == 0 {
			r, err := transcript.NewReader(bytes.NewReader(f))
			if err != nil {
				return nil, fmt.Errorf("stream %v: entry %d is no header: %v", sid, p.entry, err)
			}
			st.Session = r.Header().Session
		}
		st.Ended = transcript.FrameType(f[4]) == transcript.TypeEnd
		head = head.Add(f)
		st.Head.Bytes += int64(len(f))
		st.left += p.size
	}
	st.Head.Frames, st.Head.Chain = int64(head.Frames), statement.Hash(head.Chain)
	if head.Frames == 0 || !sealed {
		return st, ErrNoStream
	}
	return st, nil
}
