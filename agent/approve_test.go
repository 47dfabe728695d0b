package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger/ledgertest"
)

// evidenceOf is all of a log, as the CA would prove it.
func evidenceOf(l *ledgertest.Log, id name.RequestID) *api.Evidence {
	e := &api.Evidence{Request: id, Checkpoint: l.Checkpoint()}
	for i, raw := range l.Entries {
		e.Entries = append(e.Entries, api.ProvenEntry{Index: int64(i), Entry: string(raw), Proof: l.Prove(int64(i))})
	}
	return e
}

// TestAnApproverSeesWhatWasSignedAndNothingElse: what a lying CA shows in its place is refused.
func TestAnApproverSeesWhatWasSignedAndNothingElse(t *testing.T) {
	l := ledgertest.New(t)
	alice, bob, carol := l.Enrol("alice"), l.Enrol("bob"), l.Enrol("carol")
	w := l.Wait(alice, 2, []name.Person{"bob", "carol"}, nil)
	l.Approve(carol, w, statement.Deny, func(a *statement.Approval) { a.Comment = "why now?" })
	id := w.Statement.ID
	s, err := CheckEvidence(evidenceOf(l, id), id, l.Site)
	if err != nil {
		t.Fatal(err)
	}
	if s.Request.Reason != w.Statement.Reason || s.Request.Person != "alice" || s.Hash != w.Signed || s.Key != "soft" || !s.Software || !s.UV || s.Waits.Approvals != 2 ||
		len(s.Approvals) != 1 || s.Approvals[0].Comment != "why now?" {
		t.Errorf("%+v", s)
	}
	replace := func(old, new string) func(*api.Evidence) {
		return func(e *api.Evidence) {
			for i := range e.Entries {
				e.Entries[i].Entry = strings.Replace(e.Entries[i].Entry, old, new, 1)
			}
		}
	}
	other := ledgertest.New(t)
	for what, bend := range map[string]func(*api.Evidence){
		"another reason":              replace("web01 serves 500", "nothing is wrong"),
		"another host":                replace("host: web01", "host: db01"),
		"another address":             replace("203.0.113.9", "198.51.100.7"),
		"a proof of another entry":    func(e *api.Evidence) { e.Entries[3].Index++ },
		"another ledger's checkpoint": func(e *api.Evidence) { e.Checkpoint = other.Checkpoint() },
		"no request":                  func(e *api.Evidence) { e.Entries = e.Entries[:len(e.Entries)-2] },
		"no enrolment": func(e *api.Evidence) {
			var left []api.ProvenEntry
			for _, p := range e.Entries {
				if !strings.Contains(p.Entry, `"type":"key.enrolled"`) {
					left = append(left, p)
				}
			}
			e.Entries = left
		},
		"nothing": func(e *api.Evidence) { e.Entries = nil },
	} {
		e := evidenceOf(l, id)
		bend(e)
		if _, err := CheckEvidence(e, id, l.Site); !errors.Is(err, ErrEvidence) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := CheckEvidence(evidenceOf(l, id), "zzz-zzz", l.Site); !errors.Is(err, ErrEvidence) {
		t.Errorf("another request: %v", err)
	}
	pinned := l.Site
	pinned.Origin = "other"
	if _, err := CheckEvidence(evidenceOf(l, id), id, pinned); !errors.Is(err, ErrEvidence) {
		t.Errorf("another installation: %v", err)
	}
	// A request that somebody without an enrolled key signed, put into the log by who holds its key.
	mallory := *bob
	mallory.Name = "alice"
	forged := l.Wait(&mallory, 1, []name.Person{"bob"}, nil)
	if _, err := CheckEvidence(evidenceOf(l, forged.Statement.ID), forged.Statement.ID, l.Site); !errors.Is(err, ErrEvidence) {
		t.Errorf("a request that alice did not sign: %v", err)
	}
}

func TestADecidedRequestIsNotShown(t *testing.T) {
	l := ledgertest.New(t)
	alice, bob := l.Enrol("alice"), l.Enrol("bob")
	w := l.Wait(alice, 1, []name.Person{"bob"}, nil)
	l.Approve(bob, w, statement.Approve, nil)
	l.Allow(w, []name.Person{"bob"}, 0)
	if _, err := CheckEvidence(evidenceOf(l, w.Statement.ID), w.Statement.ID, l.Site); !errors.Is(err, ErrEvidence) {
		t.Errorf("%v", err)
	}
	g := l.Grant(alice, nil)
	if _, err := CheckEvidence(evidenceOf(l, g.Statement.ID), g.Statement.ID, l.Site); !errors.Is(err, ErrEvidence) {
		t.Errorf("%v", err)
	}
}

// TestEachFieldOfAnApprovalIsChecked: whatever a lying CA changes in the statement, no key blinks.
func TestEachFieldOfAnApprovalIsChecked(t *testing.T) {
	q := api.ApprovalAsk{Person: "bob", About: statement.AboutRequest, Of: "k7f-2mq", Hash: statement.Hash{7}, Verdict: statement.Approve, Comment: "go"}
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what string
		edit func(s *statement.Approval)
		ok   bool
	}{
		{"as it was asked", func(*statement.Approval) {}, true},
		{"another installation", func(s *statement.Approval) { s.Origin = "example/production" }, false},
		{"an older history", func(s *statement.Approval) { s.Checkpoint.Size = 99 }, false},
		{"no nonce", func(s *statement.Approval) { s.Nonce = statement.Nonce{} }, false},
		{"another person", func(s *statement.Approval) { s.Person = "mallory" }, false},
		{"about a key", func(s *statement.Approval) { s.About = statement.AboutUnlock }, false},
		{"of another request", func(s *statement.Approval) { s.Of = "q2c-9dd" }, false},
		{"over another hash", func(s *statement.Approval) { s.Hash[0] ^= 1 }, false},
		{"a yes for a no", func(s *statement.Approval) { s.Verdict = statement.Deny }, false},
		{"another comment", func(s *statement.Approval) { s.Comment = "never" }, false},
		{"counting for a day", func(s *statement.Approval) { s.Until = s.Issued.Add(24 * time.Hour) }, false},
		{"from nowhere", func(s *statement.Approval) { s.Sources = nil }, false},
	} {
		s := &statement.Approval{Origin: "example/demo", Epoch: 1, Checkpoint: statement.Checkpoint{Size: 120, Root: statement.Hash{2}}, ID: "a1", Nonce: statement.Nonce{1},
			Issued: now, Expires: now.Add(statement.Validity), Person: "bob", About: q.About, Of: q.Of, Hash: q.Hash, Verdict: q.Verdict, Comment: q.Comment,
			Until: now.Add(statement.ApprovalCounts), Sources: []string{"198.51.100.7"}}
		c.edit(s)
		if _, err := CheckApproval(challenge(t, s, "a1"), q, seen); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v, want ok=%v", c.what, err, c.ok)
		}
	}
}
