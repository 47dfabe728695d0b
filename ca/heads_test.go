package ca_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
)

// What the jump signed while a session ran, the stream must pass through; else it is no recording of that session, whatever its end says.
func TestARecordingPassesThroughItsHeads(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*ledger.Head)
		ok     bool
	}{
		"as it is":      {func(*ledger.Head) {}, true},
		"another chain": {func(h *ledger.Head) { h.Chain[0] ^= 1 }, false},
		"other bytes":   {func(h *ledger.Head) { h.Bytes-- }, false},
		"a later frame": {func(h *ledger.Head) { h.Frames++ }, false},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStage(t)
			ctx := context.Background()
			a, err := s.jump.Open(s.jump.Question(s.grant(t)))
			catest.Must(t, err)
			stream, envelope, final := record(t, s.Pins.Site.Origin, a)
			var h transcript.Head
			var heads []ledger.Head
			for rest := stream; len(rest) > 0; {
				f, more, ok := transcript.SplitFrame(rest)
				if !ok {
					t.Fatal("torn")
				}
				h, rest = h.Add(f), more
				heads = append(heads, ledger.Head{Frames: int64(h.Frames), Chain: statement.Hash(h.Chain), Bytes: int64(len(stream) - len(rest))})
			}
			pass := catest.NewKey(t)
			ch, err := s.bob.Client.Pass(ctx, api.PassAsk{Person: "bob", Holder: catest.Line(pass.PublicKey())})
			catest.Must(t, err)
			_, err = s.bob.Client.SignPass(ctx, ch.ID, api.Signed{SSHSIG: s.bob.Sign(ch)})
			catest.Must(t, err)
			reading := func(query string) (got []byte, err error) {
				return got, s.Wire().By(pass).Get("/v1/transcripts/"+a.Session.File()+query, &got)
			}
			// Half of it is there when the head is signed.
			mid := heads[1]
			_, err = s.jump.Client.PutTranscript(ctx, a.Session, 0, stream[:mid.Bytes])
			catest.Must(t, err)
			c.change(&mid)
			_, err = s.jump.Client.SendFacts(ctx, &api.FactsAsk{Facts: []api.SignedStatement{
				s.jump.Fact("session.head", body(t, &ledger.SessionHead{Head: mid}), a.Session)}})
			catest.Must(t, err)
			if size, err := s.jump.Client.TranscriptSize(ctx, a.Session); err != nil || size.Finished || size.Size != heads[1].Bytes {
				t.Errorf("%+v, %v", size, err)
			}
			if got, err := reading(""); err == nil {
				t.Errorf("a part was read as the recording: %d bytes", len(got))
			}
			if got, err := reading("?unfinished=yes"); err != nil || string(got) != string(stream[:heads[1].Bytes]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			_, err = s.jump.Client.PutTranscript(ctx, a.Session, heads[1].Bytes, stream[heads[1].Bytes:])
			catest.Must(t, err)
			catest.Must(t, s.jump.Client.PutEnvelope(ctx, a.Session, envelope))
			_, err = s.jump.Client.SendFacts(ctx, &api.FactsAsk{Facts: []api.SignedStatement{
				s.jump.Fact("session.ended", body(t, &ledger.SessionEnded{Reason: "closed", Exit: "0", Seconds: 1, Head: final, Envelope: sha256.Sum256(envelope)}), a.Session)}})
			catest.Must(t, err)
			// A head behind the end is no fact of this session.
			n, prev := s.jump.Number, s.jump.Previous
			late := s.jump.Fact("session.head", body(t, &ledger.SessionHead{Head: final}), a.Session)
			if _, err := s.jump.Client.SendFacts(ctx, &api.FactsAsk{Facts: []api.SignedStatement{late}}); err == nil {
				t.Error("a head of a session that is over was taken")
			}
			s.jump.Number, s.jump.Previous = n, prev
			err = s.jump.Client.FinishTranscript(ctx, a.Session, &api.FinishAsk{Head: final})
			var p *api.Problem
			if c.ok != (err == nil) || err != nil && (!errors.As(err, &p) || p.Code != api.CodeConflict) {
				t.Errorf("finished: %v", err)
			}
			stored := 0
			for _, e := range s.Entries() {
				if f, ok := e.Facts.(*ledger.TranscriptStored); ok {
					stored++
					if f.SHA256 != sha256.Sum256(stream) || f.Head != final {
						t.Errorf("stored as %+v", f)
					}
				}
			}
			if (stored == 1) != c.ok {
				t.Errorf("stored %d times", stored)
			}
			if c.ok {
				s.Audit()
			}
		})
	}
}
