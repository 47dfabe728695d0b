package state

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// lived is a ledger in which each type of entry that changes a table stands.
func lived(t *testing.T) *ledgertest.Log {
	l := ledgertest.New(t)
	alice, bob := l.Enrol("alice"), l.Enrol("bob")
	j := l.Join("jump-a")
	l.Recipient(bob, "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	l.Recipient(alice, "age1alice") // outlives bob's revocation
	recipients(l, alice)
	pass := l.Pass(bob)
	g := l.Grant(alice, nil)
	s := l.Open(g, j, []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}, []name.Person{"bob"})
	head := ledger.Head{Frames: 3, Bytes: 900}
	l.Fact(j, s.Subject, &ledger.HostKeyMismatch{Address: "127.0.0.1:22", Seen: "SHA256:x", Wanted: []string{"SHA256:y"}})
	l.Fact(j, s.Subject, &ledger.SessionEnded{Reason: "closed", Exit: "0", Seconds: 7, Head: head})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s.Subject, Facts: &ledger.TranscriptStored{Head: head}})
	l.Append(&ledger.Entry{Actor: ledger.PersonActor("bob"), Subject: s.Subject, Facts: &ledger.TranscriptRead{Pass: pass, Why: "review"}})
	s2 := l.Open(g, j, []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}, []name.Person{"bob"})
	l.Fact(j, s2.Subject, &ledger.SessionCrashed{Head: head})
	l.Fact(j, ledger.Subject{Jump: "jump-a"}, &ledger.StrangersSummed{From: ledger.At(l.Now), To: ledger.At(l.Now), Counts: []ledger.StrangerCount{}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: ledger.Subject{Jump: "jump-a"}, Facts: &ledger.JumpGap{Have: j.Number, Got: j.Number + 3}})
	l.Open(l.Grant(alice, nil), j, []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}, []name.Person{"bob"})
	running := l.Open(g, j, []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}, []name.Person{"bob"})
	l.IssueSession(running)
	l.Append(&ledger.Entry{Actor: ledger.PersonActor("bob"), Subject: running.Subject, Facts: &ledger.SessionWatched{Watch: "w1", Pass: pass, Why: "to help"}})
	l.Append(&ledger.Entry{Actor: ledger.PersonActor("bob"), Subject: running.Subject, Facts: &ledger.SessionWatched{Watch: "w2", Pass: pass, Why: "to help"}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: running.Subject, Facts: &ledger.SessionUnwatched{Watch: "w1", How: ledger.WatchLapsed}})
	l.OrderInvite(alice, "person", "carol", nil)
	l.Stop(g, ledgertest.Stopped{How: ledger.RevokedByKill, Pass: pass, By: "bob", Session: running.ID})
	l.Revoke(alice, ledger.RevokedCertificate, "12345", time.Time{}, nil)
	waits := func() *ledgertest.Waiting { return l.Wait(alice, 1, []name.Person{"bob"}, nil) }
	w := waits()
	l.Approve(bob, w, statement.Deny, nil)
	l.Approve(bob, w, statement.Approve, nil)
	l.Allow(w, []name.Person{"bob"}, 0)
	ext := l.Wait(alice, 1, []name.Person{"bob"}, func(r *statement.Request) { r.Request, r.Of = statement.RequestExtend, w.Statement.ID })
	l.Approve(bob, ext, statement.Approve, nil)
	l.Now = l.Now.Add(time.Minute)
	l.Extend(w, ext, []name.Person{"bob"})
	over := waits()
	l.Override(alice, over, 1, nil)
	l.Allow(over, nil, 1)
	vetoed := waits()
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: vetoed.Subject, Facts: &ledger.RequestDenied{Reasons: []ledger.Reason{{Code: "vetoed", Detail: "bob said no"}}}})
	text, sig := alice.Silent(l.Request(alice, ledgertest.NewKey(t).PublicKey()))
	l.Append(&ledger.Entry{Actor: ledger.PersonActor("alice"), Subject: ledger.Subject{Person: "alice"}, Statement: text, SSHSIG: sig,
		Facts: &ledger.RequestDenied{Reasons: []ledger.Reason{{Code: "no_touch", Detail: "signed without a touch"}}}})
	// What only production sites have, as the tables take it; whether it may stand there is the audit's to say.
	key := ledger.Subject{Person: "alice", Key: alice.Fingerprint}
	l.Append(&ledger.Entry{Actor: ledger.PersonActor("alice"), Subject: key, Facts: &ledger.FoundingSigned{Owners: []name.Person{"alice"}, Keys: []string{alice.Fingerprint}, Touch: ledger.Touch{Key: alice.Fingerprint}}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.Founding{Owners: []name.Person{"alice"}, Keys: []string{alice.Fingerprint}, How: "owners"}})
	l.Append(&ledger.Entry{Actor: ledger.PersonActor("alice"), Subject: key, Facts: &ledger.KeyProved{Touch: ledger.Touch{Key: alice.Fingerprint}}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: ledger.Subject{Person: "alice"}, Facts: &ledger.EnrolmentRenewed{Keys: []string{alice.Fingerprint}, Lapsed: []string{alice.Fingerprint}, Until: ledger.At(l.Now.Add(time.Hour))}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: key, Facts: &ledger.KeyVouched{How: ledger.VouchedByOthers, By: []name.Person{"bob"}, CountsFrom: ledger.At(l.Now.Add(time.Hour))}})
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: ledger.Subject{Person: "alice", Key: alice.Fingerprint}, Facts: &ledger.KeySuspended{Why: "counter_went_back"}})
	l.Revoke(bob, ledger.RevokedKey, alice.Fingerprint, time.Time{}, nil)
	l.Revoke(bob, ledger.RevokedPerson, "bob", time.Time{}, nil)
	l.Revoke(bob, ledger.RevokedJump, "jump-a", time.Time{}, nil)
	next := l.Site
	next.TLS = []string{next.TLS[0], strings.Repeat("ab", 32)}
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.SiteChanged{Site: next, Why: "another standby"}})
	next.TLS, next.Retired = next.TLS[:1], []ledger.RetiredKey{{Kind: "tls", Key: strings.Repeat("ab", 32), Before: int64(len(l.Entries))}}
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.SiteChanged{Site: next, Why: "retired tls"}})
	codes(l, alice, bob)
	policies(l, alice)
	return l
}

// recipients are some that were rotated or removed, a recovery key after another, and the sets that followed. The signatures are the audit's to judge.
func recipients(l *ledgertest.Log, alice *ledgertest.Person) {
	of := ledger.Subject{Person: "alice", Key: alice.Fingerprint}
	by := func(p name.Person, f ledger.Facts) {
		l.Append(&ledger.Entry{Actor: ledger.PersonActor("alice"), Subject: ledger.Subject{Person: p, Key: of.Key}, Facts: f})
	}
	by("alice", &ledger.RecipientRotated{Old: "age1alice", Age: "age1anew", Sealed: "hardware"})
	by("carol", &ledger.RecipientAdded{Age: "age1carol", Sealed: "passphrase"})
	by("alice", &ledger.RecipientsRemoved{Person: "carol", Ages: []string{"age1carol"}, Why: "her laptop is gone"})
	by("alice", &ledger.RecoverySet{Age: "age1paper", Why: "the first"})
	by("alice", &ledger.RecoverySet{Age: "age1other", Old: "age1paper", Why: "another paper"})
	for _, set := range [][]ledger.SealedTo{{{Age: "SHA256:a", Person: "alice"}}, {{Age: "SHA256:b", Person: "alice", Lapsed: true}, {Age: "SHA256:r"}}} {
		l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.RecipientsChanged{Sealed: set, LeftOut: []ledger.LeftOut{{Age: "SHA256:c", Person: "bob", Why: ledger.LeftOutLapsed}}}})
	}
}

// policies are one that was adopted in pieces, and one that is signed and not adopted.
func policies(l *ledgertest.Log, alice *ledgertest.Person) {
	l.Adopt(ledgertest.Policy+"# once more\n", alice)
	l.SignPolicy(alice, ledgertest.Policy, nil)
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.PolicyRefused{SHA256: statement.Hash{1}, Error: "line 3"}})
}

// codes are a device and its locks, a lockout, a suspension that was lifted, and a clock that went back.
func codes(l *ledgertest.Log, alice, bob *ledgertest.Person) {
	of := ledger.Subject{Person: "bob"}
	enrolled := l.TOTP(bob, statement.TOTPEnrol, "phone", []byte("sealed"), statement.Hash{}, nil)
	l.About(ledger.Subject{Person: "bob", Request: name.NewRequestID()}, &ledger.TOTPUsed{Device: "phone", Step: ledger.TOTPStep(l.Now) + 1})
	l.About(of, &ledger.TOTPRefused{Code: ledger.TOTPCodeWrong, Wrong: 1})
	locked := l.About(of, &ledger.TOTPLocked{Wrong: 5, Until: ledger.At(l.Now.Add(ledger.TOTPLock))})
	l.About(of, &ledger.TOTPUnlocked{Approved: []name.Person{"alice"}, Lifts: locked})
	l.About(of, &ledger.TOTPLocked{Wrong: 5, Until: ledger.At(l.Now.Add(ledger.TOTPLock))})
	l.About(ledger.Subject{Person: "alice"}, &ledger.TOTPRemoved{Device: "phone", How: "approvers", Lifts: enrolled})
	l.About(of, &ledger.PersonLocked{Refused: 10, Until: ledger.At(l.Now.Add(ledger.LockoutTime))})
	l.About(ledger.Subject{Person: "carol"}, &ledger.PersonLocked{Refused: 10, Until: ledger.At(l.Now.Add(ledger.LockoutTime))})
	l.About(ledger.Subject{Person: "carol"}, &ledger.PersonUnlocked{Approved: []name.Person{"bob"}})
	l.Deny(bob, "login_not_allowed")
	key := ledger.Subject{Person: "alice", Key: alice.Fingerprint}
	h := l.About(key, &ledger.KeySuspended{Why: "counter_went_back", Seen: 1})
	l.About(key, &ledger.KeyUnlocked{How: "approvers", Lifts: h, Seen: 1})
	l.About(key, &ledger.KeySuspended{Why: "counter_went_back", Seen: 1})
	l.Now = l.Now.Add(-time.Hour)
	l.Append(&ledger.Entry{Actor: ledger.ActorRoot, Facts: &ledger.ClockAccepted{Newest: ledger.At(l.Now), Jumps: 40}})
	l.Now = l.Now.Add(2 * time.Hour)
}

// dump is every row of every projected table.
func dump(t *testing.T, s *State) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, table := range projected {
		rows, err := s.read.Query(`SELECT * FROM ` + table)
		if err != nil {
			t.Fatal(err)
		}
		cols, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			vals, ptrs := make([]any, len(cols)), make([]any, len(cols))
			for i := range vals {
				ptrs[i] = &vals[i]
			}
			if err := rows.Scan(ptrs...); err != nil {
				t.Fatal(err)
			}
			out[table] = append(out[table], fmt.Sprintf("%v", vals))
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestRebuildGivesTheSameTables(t *testing.T) {
	l := lived(t)
	s, _ := openAt(t, t.TempDir())
	defer s.Close()
	for i, raw := range l.Entries {
		e, err := ledger.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Do(context.Background(), func(tx *Tx) error {
			_, b, err := tx.Append(e)
			if err == nil && string(b) != string(raw) {
				err = fmt.Errorf("other bytes: %s", b)
			}
			return err
		}); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	if head, _ := s.Head(); head.Pin() != l.Pin() {
		t.Errorf("head %v, want %v", head, l.Pin())
	}
	live := dump(t, s)
	for _, table := range projected {
		if len(live[table]) == 0 {
			t.Errorf("table %s is empty: the test does not reach it", table)
		}
	}
	// What somebody changed in a table by hand is gone after a rebuild: the ledger is what counts.
	if _, err := s.write.Exec(`UPDATE keys SET suspended = 0, counter = 0`); err != nil {
		t.Fatal(err)
	}
	for _, table := range projected {
		if table == "keys" {
			continue
		}
		if _, err := s.write.Exec(`DELETE FROM ` + table); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Rebuild(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(live, dump(t, s)); d != "" {
		t.Errorf("a rebuild gives other tables:\n%s", d)
	}
}

func TestProjectionNamesAllItsTables(t *testing.T) {
	if n := strings.Count(projection, "CREATE TABLE"); n != len(projected) {
		t.Errorf("%d tables are made, %d are rebuilt", n, len(projected))
	}
}
