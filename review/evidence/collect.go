package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

// Source is where a bundle's parts are fetched: the CA, under a pass. Nothing that it gives is believed.
type Source interface {
	Evidence(ctx context.Context, id name.RequestID) (*api.Evidence, error)
	Consistency(ctx context.Context, from, to int64) (*api.ConsistencyProof, error)
	Transcript(ctx context.Context, id name.SessionID) (io.ReadCloser, error)
}

// Wanted says what to collect.
type Wanted struct {
	Request name.RequestID
	Only    name.SessionID // "" is every session of the request
	// LedgerKey is the pinned one.
	LedgerKey string
	// Pinned are histories that the maker knows: with a link from them, whoever pinned the same sees that history goes on.
	Pinned []statement.Checkpoint
	// Envelopes that the maker was handed before, by session.
	Envelopes map[name.SessionID][]byte
}

// Collect gathers what proves a request.
func Collect(ctx context.Context, src Source, want Wanted) (*Evidence, []Recording, error) {
	id := want.Request
	got, err := src.Evidence(ctx, id)
	if err != nil {
		return nil, nil, fmt.Errorf("fetching evidence of %s: %w", id, err)
	}
	head, err := ledger.OpenCheckpoint(got.Checkpoint, want.LedgerKey)
	if err != nil {
		return nil, nil, fmt.Errorf("fetching evidence of %s: %w", id, err)
	}
	e := &Evidence{V: 1, Request: got.Request, Checkpoint: got.Checkpoint}
	roots := map[int64]statement.Hash{}
	see := func(c statement.Checkpoint) {
		if _, ok := roots[c.Size]; !ok && c.Size > 0 && c.Size < head.Size { // of two roots the second fails in Verify
			roots[c.Size] = c.Root
		}
	}
	for _, c := range want.Pinned {
		see(c)
	}
	var recordings []Recording
	for _, p := range got.Entries {
		e.Entries = append(e.Entries, Entry{p.Index, p.Entry, p.Proof})
		entry, err := ledger.Decode([]byte(p.Entry))
		if err != nil {
			return nil, nil, fmt.Errorf("entry %d of %s: %w", p.Index, id, err)
		}
		if seen, ok := seenBy(entry.Statement); ok {
			see(seen)
		}
		if f, ok := entry.Facts.(*ledger.TranscriptStored); ok {
			s := entry.Subject.Session
			if want.Only != "" && want.Only != s {
				continue
			}
			recordings = append(recordings, Recording{Session: s, Envelope: want.Envelopes[s], Size: f.Head.Bytes,
				Open: func() (io.ReadCloser, error) { return src.Transcript(ctx, s) }})
		}
	}
	slices.SortFunc(recordings, func(a, b Recording) int { return a.Session.N() - b.Session.N() })
	var there []Recording
	for _, r := range recordings {
		h, err := streamHeader(r)
		var refused *api.Problem
		var broken *transcript.FrameError
		switch {
		case err == nil:
			see(statement.Checkpoint{Size: h.Prev.Size, Root: statement.Hash(h.Prev.Hash)})
		case errors.As(err, &refused): // not there: Verify says what is missing
			continue
		case errors.As(err, &broken): // Verify says what is wrong with it
		default:
			return nil, nil, fmt.Errorf("fetching recording %s: %w", r.Session, err)
		}
		there = append(there, r)
	}
	for _, n := range slices.Sorted(maps.Keys(roots)) {
		p, err := src.Consistency(ctx, n, head.Size)
		if err != nil {
			return nil, nil, fmt.Errorf("fetching proof from %d entries to %d: %w", n, head.Size, err)
		}
		e.Links = append(e.Links, Link{n, roots[n], p.Proof})
	}
	return e, there, nil
}

func streamHeader(r Recording) (transcript.Header, error) {
	s, err := r.Open()
	if err != nil {
		return transcript.Header{}, err
	}
	defer s.Close()
	rd, err := transcript.NewReader(s)
	if err != nil {
		return transcript.Header{}, err
	}
	return rd.Header(), nil
}

// seenBy is the checkpoint that the signer of a person's statement saw.
func seenBy(text string) (statement.Checkpoint, bool) {
	k, err := statement.KindOf([]byte(text))
	if text == "" || err != nil {
		return statement.Checkpoint{}, false
	}
	st := statement.New(k)
	if st == nil || statement.Parse([]byte(text), st) != nil {
		return statement.Checkpoint{}, false
	}
	h, ok := statement.HeadOf(st)
	return h.Checkpoint, ok
}

// VerifyFrom collects a request's evidence and verifies it in the same breath: nothing is kept.
func VerifyFrom(ctx context.Context, src Source, want Wanted, trust Trust, o Options) (*Verdict, error) {
	e, recs, err := Collect(ctx, src, want)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	var werr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		werr = Write(w, e, recs)
		w.CloseWithError(werr)
	}()
	o.Fresh, o.Only = true, want.Only
	v := Verify(r, trust, o)
	r.Close()
	<-done
	if werr == nil || errors.Is(werr, io.ErrClosedPipe) || errors.Is(werr, ErrLength) {
		return v, nil
	}
	return nil, werr // the CA did not deliver: that is no verdict on what it holds
}
