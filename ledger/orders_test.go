package ledger_test

import (
	"strconv"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// TestOrdersThatHold: invites and revocations as people sign them, and what goes on beside them, are no faults.
func TestOrdersThatHold(t *testing.T) {
	s := tell(t)
	s.OrderInvite(s.alice, "person", "carol", nil)
	s.OrderInvite(s.alice, "jump", "jump-b", nil)
	session := s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
	s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "bob", Session: session.ID})
	s.Fact(s.jump, session.Subject, s.ended)
	other := s.Grant(s.alice, nil)
	s.Revoke(s.bob, ledger.RevokedGrant, string(s.first.Statement.ID), s.first.Until, nil)
	s.Open(other, s.jump, []string{bobsAge}, []name.Person{"bob"})
	s.Stop(other, ledgertest.Stopped{How: ledger.RevokedByEnd, By: "alice"})
	third := s.Grant(s.alice, nil)
	s.Stop(third, ledgertest.Stopped{How: ledger.RevokedByEnd, Pass: s.Pass(s.alice), By: "alice"})
	s.Revoke(s.alice, ledger.RevokedCertificate, "12345", time.Time{}, nil) // one that no entry holds
	s.Revoke(s.alice, ledger.RevokedPerson, "bob", time.Time{}, nil)
	s.Grant(s.alice, nil)
	s.Revoke(s.alice, ledger.RevokedJump, "jump-a", time.Time{}, nil)
	if r := s.report(t); r.Err() != nil {
		t.Fatal(r.Findings)
	}
}

// TestOrdersMangled: each fault shows, under the entry that has it.
func TestOrdersMangled(t *testing.T) {
	grant := func(s *story) string { return string(s.first.Statement.ID) }
	for what, c := range map[string]struct {
		do   func(*story)
		code ledger.Code
	}{
		"an invite of another secret than was ordered": {func(s *story) {
			s.OrderInvite(s.alice, "person", "carol", func(e *ledger.Entry) { e.Facts.(*ledger.InviteCreated).Invite = ledger.EntryHash([]byte("mine")) })
		}, ledger.FaultStatement},
		"an invite for somebody else than was ordered": {func(s *story) {
			s.OrderInvite(s.alice, "person", "carol", func(e *ledger.Entry) { e.Facts.(*ledger.InviteCreated).Name = "mallory" })
		}, ledger.FaultStatement},
		"an invite of a jump that was ordered for a person": {func(s *story) {
			s.OrderInvite(s.alice, "person", "carol", func(e *ledger.Entry) { e.Facts.(*ledger.InviteCreated).For = "jump" })
		}, ledger.FaultStatement},
		"an invite that is good for a week": {func(s *story) {
			s.OrderInvite(s.alice, "person", "carol", func(e *ledger.Entry) {
				e.Facts.(*ledger.InviteCreated).Expires = ledger.At(s.Now.Add(7 * 24 * time.Hour))
			})
		}, ledger.FaultStatement},
		"an invite under the hash of another": {func(s *story) {
			s.OrderInvite(s.alice, "person", "carol", nil)
			s.OrderInvite(s.alice, "person", "carol", nil)
		}, ledger.FaultReplay},
		"an invite in the name of who did not sign": {func(s *story) {
			s.OrderInvite(s.alice, "person", "carol", func(e *ledger.Entry) { e.Actor, e.Subject.Person = "person:bob", "bob" })
		}, ledger.FaultStatement},
		"an order by somebody who is no operator": {func(s *story) {
			s.OrderInvite(s.Enrol("carol"), "person", "mallory", nil)
		}, ledger.FaultKey},
		"a revocation of something else than was ordered": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedPerson, "carol", time.Time{}, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Target = "bob" })
		}, ledger.FaultStatement},
		"a revocation of another kind than was ordered": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedPerson, "jump-a", time.Time{}, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).What = ledger.RevokedJump })
		}, ledger.FaultStatement},
		"a revocation with another reason": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedPerson, "bob", time.Time{}, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Why = "she asked for it" })
		}, ledger.FaultStatement},
		"a revocation that nobody signed": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedPerson, "bob", time.Time{}, func(e *ledger.Entry) { e.Statement, e.SSHSIG = "", "" })
		}, ledger.FaultSignature},
		"a revocation on nobody's word": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedPerson, "bob", time.Time{}, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).How = "because" })
		}, ledger.FaultStatement},
		"a revocation that hosts forget before the grant ends": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedGrant, grant(s), s.first.Until.Add(-time.Minute), nil)
		}, ledger.FaultGrant},
		"a revocation of a key that is none": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedKey, "SHA256:nobodys", time.Time{}, nil)
		}, ledger.FaultOrder},
		"a session under a revoked grant": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedGrant, grant(s), s.first.Until, nil)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}, ledger.FaultRevoked},
		"a session under a grant that was ended": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByEnd, By: "alice"})
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}, ledger.FaultRevoked},
		"a session under a revoked certificate": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedCertificate, serial(s.first), s.first.Until, nil)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}, ledger.FaultRevoked},
		"a session under the grant of a revoked key": {func(s *story) {
			s.Revoke(s.bob, ledger.RevokedKey, s.alice.Fingerprint, time.Time{}, nil)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}, ledger.FaultRevoked},
		"a session under the grant of a revoked person": {func(s *story) {
			s.Revoke(s.bob, ledger.RevokedPerson, "alice", time.Time{}, nil)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}, ledger.FaultRevoked},
		"a session at a revoked jump": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedJump, "jump-a", time.Time{}, nil)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}, ledger.FaultRevoked},
		"a fact of a revoked jump": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedJump, "jump-a", time.Time{}, nil)
			s.Fact(s.jump, ledger.Subject{Jump: "jump-a"}, &ledger.StrangersSummed{From: ledger.At(s.Now), To: ledger.At(s.Now), Counts: []ledger.StrangerCount{}})
		}, ledger.FaultRevoked},
		"a grant by a revoked key": {func(s *story) {
			s.Revoke(s.bob, ledger.RevokedKey, s.alice.Fingerprint, time.Time{}, nil)
			s.Grant(s.alice, nil)
		}, ledger.FaultRevoked},
		"an order by a revoked person": {func(s *story) {
			s.Revoke(s.bob, ledger.RevokedPerson, "alice", time.Time{}, nil)
			s.OrderInvite(s.alice, "person", "carol", nil)
		}, ledger.FaultRevoked},
		"a reading under the pass of a revoked person": {func(s *story) {
			pass := s.Pass(s.bob)
			s.Revoke(s.alice, ledger.RevokedPerson, "bob", time.Time{}, nil)
			s.Now = s.Now.Add(time.Second)
			s.Append(&ledger.Entry{Actor: ledger.PersonActor("bob"), Subject: s.session.Subject, Facts: &ledger.TranscriptRead{Pass: pass, Why: "review"}})
		}, ledger.FaultPass},
		"a recording sealed to a revoked reader": {func(s *story) {
			s.Revoke(s.alice, ledger.RevokedPerson, "bob", time.Time{}, nil)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}, ledger.FaultSession},
		"a kill under no pass": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, By: "alice"}) // her client key: it may end, not kill
		}, ledger.FaultSignature},
		"a kill under a pass that was not granted": {func(s *story) {
			p := s.Pass(s.bob)
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: p, By: "bob", Entry: func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Pass = "p-99" }})
		}, ledger.FaultPass},
		"a kill after the pass ended": {func(s *story) {
			p := s.Pass(s.bob)
			s.Now = s.Now.Add(16 * time.Minute)
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: p, By: "bob"})
		}, ledger.FaultPass},
		"a kill in another name": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "alice"})
		}, ledger.FaultPass},
		"a kill signed for another grant": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "bob", Call: func(c *statement.Call) { c.Path = "/v1/requests/aaa-bbb/kill" }})
		}, ledger.FaultStatement},
		"a read call that passes for a kill": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "bob", Call: func(c *statement.Call) { c.Method = "GET" }})
		}, ledger.FaultStatement},
		"a kill with a body that was not signed": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "bob", Call: func(c *statement.Call) { c.Body = statement.Hash{1} }})
		}, ledger.FaultStatement},
		"a kill with another reason than was signed": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "bob", Entry: func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Why = "for fun" }})
		}, ledger.FaultStatement},
		"a kill of a session that stops the grant": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "bob", Session: s.session.ID, Entry: func(e *ledger.Entry) {
				f := e.Facts.(*ledger.Revoked)
				f.What, f.Target = ledger.RevokedGrant, grant(s)
			}})
		}, ledger.FaultStatement},
		"a kill that revokes a person": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: s.Pass(s.bob), By: "bob", Entry: func(e *ledger.Entry) {
				f := e.Facts.(*ledger.Revoked)
				f.What, f.Target = ledger.RevokedPerson, "alice"
			}})
		}, ledger.FaultStatement},
		"an end of somebody else's grant": {func(s *story) {
			s.Stop(s.first, ledgertest.Stopped{How: ledger.RevokedByEnd, Pass: s.Pass(s.bob), By: "bob"})
		}, ledger.FaultGrant},
		"an end by another grant's client key": {func(s *story) {
			other := s.Grant(s.alice, nil)
			other.Statement, other.Subject = s.first.Statement, s.first.Subject
			s.Stop(other, ledgertest.Stopped{How: ledger.RevokedByEnd, By: "alice"})
		}, ledger.FaultSignature},
	} {
		t.Run(what, func(t *testing.T) {
			s := tell(t)
			before := int64(len(s.Entries))
			c.do(s)
			r := s.report(t)
			if !has(r, c.code) {
				t.Errorf("want %s: %v", c.code, r.Findings)
			}
			for _, f := range r.Findings {
				if f.Index < before {
					t.Errorf("an honest entry is blamed: %v", f)
				}
			}
		})
	}
}

func serial(g *ledgertest.Grant) string { return strconv.FormatUint(g.Certificate.Serial, 10) }
