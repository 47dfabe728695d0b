package ca

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
	"breakglass/transcript/s3"
)

// maxEnvelope bounds an envelope in bytes: all that a jump can make, or a recording would never be stored.
const maxEnvelope = transcript.MaxEnvelope

// ofJump gives the session if the caller is the jump that runs it.
func (c *CA) ofJump(ctx context.Context, id name.SessionID, who *caller) (s state.Session, err error) {
	if who == nil || who.jump == "" {
		return s, passNeeded()
	}
	err = c.state.View(ctx, func(tx *state.Tx) error { s, err = tx.Session(id); return err })
	if errors.Is(err, state.ErrNotFound) || err == nil && s.Jump != who.jump {
		return s, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "this jump has no session " + string(id)}
	}
	return s, err
}

func storeProblem(err error) error {
	switch {
	case errors.Is(err, transcript.ErrConflict), errors.Is(err, transcript.ErrGap), errors.Is(err, transcript.ErrFinished):
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: err.Error()}
	case errors.Is(err, transcript.ErrNotStored):
		return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "the recording is not in the store yet", Next: []string{"try again in a moment"}}
	}
	return err
}

func (c *CA) transcriptSize(ctx context.Context, id name.SessionID, who *caller) (*api.Size, error) {
	if _, err := c.ofJump(ctx, id, who); err != nil {
		return nil, err
	}
	st, err := c.store.Stat(id)
	if errors.Is(err, transcript.ErrNotStored) {
		return &api.Size{}, nil
	}
	return &api.Size{Size: st.Size, Finished: st.Finished}, storeProblem(err)
}

func (c *CA) putTranscript(ctx context.Context, id name.SessionID, offset int64, piece []byte, who *caller) (*api.Size, error) {
	if _, err := c.ofJump(ctx, id, who); err != nil {
		return nil, err
	}
	size, err := c.store.Put(id, offset, piece)
	c.watching.tell(id)
	return &api.Size{Size: size}, storeProblem(err)
}

func (c *CA) putEnvelope(ctx context.Context, id name.SessionID, env []byte, who *caller) error {
	if _, err := c.ofJump(ctx, id, who); err != nil {
		return err
	}
	if len(env) == 0 || len(env) > maxEnvelope {
		return badRequest("envelope of %d bytes, limit %d", len(env), maxEnvelope)
	}
	return storeProblem(c.store.PutEnvelope(id, env))
}

// finishTranscript takes a recording as whole: the stream's chain must pass through every head that the jump signed while it ran and end where its last fact says, it must be bound to this session's
// entry, and the envelope must be the one that header and fact name. Then it is an entry.
func (c *CA) finishTranscript(ctx context.Context, id name.SessionID, q *api.FinishAsk, who *caller) error {
	s, err := c.ofJump(ctx, id, who)
	if err != nil {
		return err
	}
	if s.Stored {
		return nil // a repeat: its answer was lost
	}
	if s.Head == nil {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "no fact says how this session ended"}
	}
	if *s.Head != q.Head {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "the head is not the one of the jump's fact"}
	}
	env, err := c.store.Envelope(id)
	if err != nil {
		return storeProblem(err)
	}
	if sha256.Sum256(env) != s.Envelope {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "the envelope is not the one of the jump's fact"}
	}
	manifest, err := c.finishStored(id, q.Head.Bytes)
	if err != nil {
		return storeProblem(err)
	}
	stored, err := c.readBack(ctx, s)
	if err != nil {
		return err
	}
	res := &stored.res
	got := ledger.Head{Frames: int64(res.Head.Frames), Chain: statement.Hash(res.Head.Chain), Bytes: res.Bytes}
	if got != q.Head || q.SHA256 != (statement.Hash{}) && q.SHA256 != stored.sum {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "the stream is not the one of the jump's fact"}
	}
	if statement.Hash(res.Header.Bind) != s.Hash || res.Header.Session != id || statement.Hash(res.Header.Env) != s.Envelope || res.Header.Origin != c.keys.ledger.Name() {
		return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "the stream's header is of another session"}
	}
	err = c.state.Do(context.WithoutCancel(ctx), func(tx *state.Tx) error { // it was a long way here
		now, err := tx.Session(id)
		if err != nil || now.Stored {
			return err
		}
		_, _, err = tx.Append(c.entry(ledger.ActorCA, sessionSubject(s), &ledger.TranscriptStored{Head: q.Head, SHA256: stored.sum, Envelope: s.Envelope, Manifest: manifest}))
		return err
	})
	if bucket, ok := c.store.(*s3.Store); ok && err == nil {
		bucket.Forget(id)
	}
	return err
}

func sessionSubject(s state.Session) ledger.Subject {
	return ledger.Subject{Request: s.Request, Session: s.ID, Person: s.Person, Host: s.Host, Login: s.Login, Jump: s.Jump}
}

// readTranscript streams the sealed recording to a pass: sealed, it shows sizes and times and nothing else.
func (c *CA) readTranscript(w http.ResponseWriter, r *http.Request, id name.SessionID, who *caller) error {
	if who == nil || who.person == "" {
		return passNeeded()
	}
	st, err := c.store.Stat(id)
	if err != nil {
		return storeProblem(err)
	}
	if !st.Finished && r.URL.Query().Get("unfinished") != "yes" { // the beginning of a stream is a stream too: who wants it has to know
		return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "the recording is not whole yet: its session runs, or its end is on the way", Next: []string{"breakglass sessions " + string(id)}}
	}
	f, err := c.store.Open(id)
	if err != nil {
		return storeProblem(err)
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = io.Copy(w, f)
	if err != nil {
		c.log.Warn("sending a transcript", "session", id, "error", err)
	}
	return nil
}

// readEnvelope records who reads, which session and why, and then hands out the key to it.
func (c *CA) readEnvelope(ctx context.Context, id name.SessionID, q *api.ReadAsk, who *caller) ([]byte, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	if !c.policy.Load().IsReader(who.person) {
		return nil, &api.Problem{Status: 403, Code: api.CodeDenied, Detail: string(who.person) + " is no reader of the policy", Next: []string{"ask one of [site] readers"}}
	}
	if err := statement.CheckText(q.Why); err != nil {
		return nil, badRequest("why: %v", err)
	}
	if q.Why == "" {
		return nil, badRequest("why: say why it is read: that is recorded")
	}
	env, err := c.store.Envelope(id)
	if err != nil {
		return nil, storeProblem(err)
	}
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		s, err := tx.Session(id)
		if err != nil {
			return err
		}
		// As of now, not as of the door: the store may have taken a while to answer.
		if v, err := tx.PassRevoked(who.pass); err != nil || v {
			return errors.Join(err, passNeeded())
		}
		if !c.policy.Load().IsReader(who.person) {
			return &api.Problem{Status: 403, Code: api.CodeDenied, Detail: string(who.person) + " is no reader of the policy any more"}
		}
		// The subject is the session's; who reads is the actor.
		_, _, err = tx.Append(c.entry(ledger.PersonActor(who.person), sessionSubject(s), &ledger.TranscriptRead{Pass: who.pass, Why: q.Why}))
		return err
	})
	if err != nil {
		return nil, err
	}
	return env, nil
}
