package ledger_test

import (
	"slices"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// What is missing of grants that are over is said, and is a fault once it is late.
func TestComplete(t *testing.T) {
	s := tell(t)
	unused := s.Grant(s.alice, nil)
	used := s.Grant(s.alice, nil)
	running := s.Open(used, s.jump, []string{bobsAge}, []name.Person{"bob"})
	over := s.Open(used, s.jump, []string{bobsAge}, []name.Person{"bob"})
	s.Fact(s.jump, over.Subject, &ledger.SessionEnded{Reason: "closed", Head: ledger.Head{Frames: 3, Chain: ledger.EntryHash([]byte("c")), Bytes: 40}, Envelope: ledger.EntryHash([]byte("e"))})
	look := func() *ledger.Report {
		t.Helper()
		r, err := ledger.Verify(ledgertest.All(s.Entries), s.Checkpoint(), s.VKey)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := look(); !r.OK() || len(r.Missing.Unused)+len(r.Missing.Unended)+len(r.Missing.Unstored) != 0 {
		t.Errorf("while the grants live: %+v, %v", r.Missing, r.Err())
	}
	later := func(d time.Duration) {
		s.Now = s.Now.Add(d)
		s.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.CAStopped{Why: "stopped"}})
	}
	later(3 * time.Hour)
	r := look()
	m := r.Missing
	if !r.OK() || !slices.Contains(m.Unused, unused.Statement.ID) || slices.Contains(m.Unused, used.Statement.ID) ||
		!slices.Equal(m.Unended, []name.SessionID{running.ID}) || !slices.Equal(m.Unstored, []name.SessionID{over.ID}) {
		t.Errorf("after their end: %+v, %v", m, r.Err())
	}
	later(ledger.CompleteAfter)
	r = look()
	var codes []ledger.Code
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	if !slices.Equal(codes, []ledger.Code{ledger.FaultSession, ledger.FaultTranscript}) {
		t.Errorf("a day later: %v", r.Findings)
	}
}
