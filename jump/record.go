package jump

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/jump/ship"
	"breakglass/ledger"
	"breakglass/transcript"
)

// recorder is the one gate: what passes through a session is first a record in the journal.
type recorder struct {
	w       *transcript.Writer
	journal *journal.Journal
	sid     journal.SID
	env     transcript.Hash
	began   time.Time // t0, with its monotonic reading
	in, out atomic.Int64
	// failed is told of errors and cuts the session; it doesn't wait.
	failed  func(error)
	figures *figures
	// requested is told of what is recorded beside data; nil before there is a session.
	requested func([]transcript.Event)
	ship      *ship.Shipper
	ending    atomic.Bool // a cut is not kept waiting
}

// newRecorder makes header and envelope durable: only then may a channel open.
func (j *Jump) newRecorder(o *order, door string, failed func(error)) (*recorder, error) {
	key := transcript.NewKey()
	env, err := transcript.Envelope(o.recipients, key)
	if err != nil {
		return nil, err
	}
	r := &recorder{journal: j.cfg.Journal, env: transcript.SHA256(env), began: time.Now(), failed: failed, figures: j.figures}
	r.w, err = transcript.NewWriter(transcript.Header{
		Session: o.session, Jump: j.cfg.Name, Origin: j.trusted().origin, Person: o.person, Login: o.login, Host: o.host, Door: door,
		T0: j.cfg.Now().UnixMicro(), Bind: transcript.Hash(o.bind),
		Prev: transcript.Checkpoint{Size: o.checkpoint.Size, Hash: transcript.Hash(o.checkpoint.Root)}, Env: r.env,
	}, key)
	if err != nil {
		return nil, err
	}
	r.sid = r.w.Header().SID
	// The header first: after a crash between the two the session can still be named.
	header := r.w.HeaderFrame()
	c := make(chan error, 1)
	if err := r.journal.AppendAsync(journal.Entry{Stream: r.sid, Kind: ship.KindFrame, Data: header, Last: true}, func(err error) { c <- err }); err != nil {
		return nil, err
	}
	err = r.journal.Append(journal.Entry{Stream: r.sid, Kind: ship.KindEnvelope, Data: env, Last: true})
	if err = errors.Join(<-c, err); err != nil {
		return nil, err
	}
	j.mu.Lock()
	r.ship = j.shipper
	j.mu.Unlock()
	folder, err := r.w.Folder()
	if err != nil {
		return nil, err
	}
	r.ship.Follow(r.sid, o.session, statement.Hash(r.env), len(header), folder)
	return r, nil
}

// at is the time since t0.
func (r *recorder) at() time.Duration { return time.Since(r.began) }

// receipt says when events are durable.
type receipt chan error

// later seals events as one record and hands it to the journal. What they describe may go on when the receipt says nil.
func (r *recorder) later(events ...transcript.Event) receipt {
	done := make(receipt, 1)
	if r.requested != nil {
		r.requested(events)
	}
	if bulk(events) {
		r.ship.Pace(r.sid, &r.ending)
	}
	if left, _ := r.journal.Room(); left < journalLow {
		err := fmt.Errorf("recording: %w", journal.ErrFull)
		r.failed(err)
		done <- err
		return done
	}
	now := r.at()
	for i := range events {
		events[i].T = now
	}
	err := r.w.SealTo(events, func(f []byte) error {
		e := journal.Entry{Stream: r.sid, Kind: ship.KindFrame, Data: f}
		tell := func(err error) {
			if err != nil {
				r.failed(err)
			} else {
				r.figures.durable(r.at() - now)
			}
			transcript.Release(f) // it is on the disk; whoever ships it reads it there
			done <- err
		}
		err := r.journal.AppendAsync(e, tell)
		if errors.Is(err, journal.ErrFull) {
			// Its number is taken; without it the recording couldn't be ended. The same sealed bytes, out of the reserve.
			e.Last = true
			err = r.journal.AppendAsync(e, tell)
		}
		return err
	})
	if err != nil {
		r.failed(err)
		done <- err
		return done
	}
	for _, e := range events {
		switch e.Kind {
		case transcript.KindInput:
			r.in.Add(int64(len(e.Data)))
		case transcript.KindOutput, transcript.KindStderr:
			r.out.Add(int64(len(e.Data)))
		}
	}
	return done
}

// bulk says that the events are more than a person types or reads at once.
func bulk(events []transcript.Event) bool {
	return len(events) == 1 && len(events[0].Data) >= bulkRecord
}

// now returns when the events are durable.
func (r *recorder) now(events ...transcript.Event) error { return <-r.later(events...) }

// act is what the jump itself did or saw.
func act(channel uint32, code, text string) transcript.Event {
	return transcript.Event{Kind: transcript.KindAct, Chan: channel, Data: transcript.Action{Code: code, Text: text}.Encode()}
}

// end seals the stream, and decides how the rest of it is stored: head is what that makes of it. After an error whoever tells of it reads the journal.
func (r *recorder) end(reason string, exit *int) (head ledger.Head, err error) {
	f, err := r.w.End(reason, exit, r.at())
	if err == nil {
		err = r.journal.Append(journal.Entry{Stream: r.sid, Kind: ship.KindFrame, Data: f, Last: true})
	}
	if err == nil {
		head, err = r.ship.Close(r.sid)
	}
	if err != nil {
		return ledger.Head{}, fmt.Errorf("ending the recording: %w", err)
	}
	return head, nil
}
