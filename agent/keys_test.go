package agent

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// TestStatementsAboutKeysAreChecked: whatever a lying CA changes in a founding, a renewal or a loss, no key blinks.
func TestStatementsAboutKeysAreChecked(t *testing.T) {
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	head := statement.Head{Origin: "example/demo", Epoch: 1, Checkpoint: statement.Checkpoint{Size: 120, Root: statement.Hash{2}}, ID: "x1",
		Nonce: statement.Nonce{1}, Issued: now, Expires: now.Add(statement.Validity), Person: "alice"}
	here := seen
	here.Site.Profile = "production"
	mine, other := "SHA256:mine", "SHA256:other"
	found := api.FoundingAsk{Person: "alice", Policy: statement.Hash{3}, Owners: []name.Person{"alice", "bob"}, Keys: []string{mine, other}}
	loss := api.LossAsk{Person: "alice", Key: other, Reason: "in a taxi"}
	founding := func(f func(*statement.Founding)) statement.Statement {
		s := &statement.Founding{Policy: found.Policy, Owners: []string{"alice", "bob"}, Keys: slices.Clone(found.Keys), Profile: "production"}
		statement.SetHead(s, head)
		f(s)
		return s
	}
	renewal := func(f func(*statement.Renewal)) statement.Statement {
		s := &statement.Renewal{Key: mine, Keys: []string{mine, other}}
		statement.SetHead(s, head)
		f(s)
		return s
	}
	lost := func(f func(*statement.Loss)) statement.Statement {
		s := &statement.Loss{Key: other, Reason: loss.Reason}
		statement.SetHead(s, head)
		f(s)
		return s
	}
	for _, c := range []struct {
		what string
		st   statement.Statement
		ok   bool
	}{
		{"a founding as it was read", founding(func(*statement.Founding) {}), true},
		{"another policy", founding(func(s *statement.Founding) { s.Policy[0] ^= 1 }), false},
		{"an owner more", founding(func(s *statement.Founding) { s.Owners = append(s.Owners, "mallory") }), false},
		{"an owner less", founding(func(s *statement.Founding) { s.Owners = s.Owners[:1] }), false},
		{"a key more", founding(func(s *statement.Founding) { s.Keys = append(s.Keys, "SHA256:mallory") }), false},
		{"another key", founding(func(s *statement.Founding) { s.Keys[1] = "SHA256:mallory" }), false},
		{"another profile", founding(func(s *statement.Founding) { s.Profile = "demo" }), false},
		{"another person's", founding(func(s *statement.Founding) { s.Person = "bob" }), false},
		{"of another site", founding(func(s *statement.Founding) { s.Origin = "other/demo" }), false},
		{"an older history", founding(func(s *statement.Founding) { s.Checkpoint.Size = 1 }), false},
		{"a renewal as it was asked", renewal(func(*statement.Renewal) {}), true},
		{"of another key", renewal(func(s *statement.Renewal) { s.Key = other }), false},
		{"that leaves the key out", renewal(func(s *statement.Renewal) { s.Keys = []string{other} }), false},
		{"another person's renewal", renewal(func(s *statement.Renewal) { s.Person = "bob" }), false},
		{"good for an hour", renewal(func(s *statement.Renewal) { s.Expires = s.Issued.Add(time.Hour) }), false},
		{"a loss as it was reported", lost(func(*statement.Loss) {}), true},
		{"of the key in the hand", lost(func(s *statement.Loss) { s.Key = mine }), false},
		{"for another reason", lost(func(s *statement.Loss) { s.Reason = "stolen" }), false},
		{"another person's loss", lost(func(s *statement.Loss) { s.Person = "bob" }), false},
	} {
		ch := challenge(t, c.st, "x1")
		var err error
		switch c.st.(type) {
		case *statement.Founding:
			_, err = CheckFounding(ch, found, here)
		case *statement.Renewal:
			_, err = CheckRenewal(ch, "alice", mine, here)
		case *statement.Loss:
			_, err = CheckLoss(ch, loss, here)
		}
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrStatement) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	// Another kind's namespace would make of the signature something else.
	ch := challenge(t, renewal(func(*statement.Renewal) {}), "x1")
	ch.Namespace = statement.KindLoss.Namespace()
	if _, err := CheckRenewal(ch, "alice", mine, here); !errors.Is(err, ErrStatement) {
		t.Errorf("another namespace: %v", err)
	}
}

// TestANewKeyProvesItself: nothing that a voucher reads is on the CA's word.
func TestANewKeyProvesItself(t *testing.T) {
	v := attesttest.New(t)
	l := ledgertest.Production(t, v)
	p := l.EnrolAttested("alice", v, v.Key("1234"), ledgertest.Challenge(1))
	bob := l.EnrolAttested("bob", v, v.Key("1234"), ledgertest.Challenge(2))
	raw := func(fp string) *ledger.Entry {
		for _, b := range l.Entries {
			if e, err := ledger.Decode(b); err == nil && e.Type() == "key.enrolled" && e.Subject.Key == fp {
				return e
			}
		}
		t.Fatal("no such entry")
		return nil
	}
	check := func(change func(*ledger.Entry, *ledger.KeyEnrolled)) (*NewKey, error) {
		e := raw(p.Fingerprint)
		change(e, e.Facts.(*ledger.KeyEnrolled))
		b, err := ledger.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		return CheckNewKey(string(b), l.Site)
	}
	k, err := check(func(*ledger.Entry, *ledger.KeyEnrolled) {})
	if err != nil {
		t.Fatal(err)
	}
	e := raw(p.Fingerprint)
	if k.Person != "alice" || k.Fingerprint != p.Fingerprint || !strings.HasPrefix(k.Model, v.Name) || !k.UV || !strings.HasSuffix(p.Fingerprint, k.Tail()) || len(k.Tail()) != TailLength ||
		k.Signed != statement.SignedHash(e.Statement, e.SSHSIG) {
		t.Errorf("%+v", k)
	}
	other := raw(bob.Fingerprint)
	for what, change := range map[string]func(*ledger.Entry, *ledger.KeyEnrolled){
		"another person":      func(e *ledger.Entry, _ *ledger.KeyEnrolled) { e.Subject.Person = "bob" },
		"another fingerprint": func(e *ledger.Entry, _ *ledger.KeyEnrolled) { e.Subject.Key = bob.Fingerprint },
		"another public key": func(_ *ledger.Entry, f *ledger.KeyEnrolled) {
			f.PublicKey = other.Facts.(*ledger.KeyEnrolled).PublicKey
		},
		"another name":      func(_ *ledger.Entry, f *ledger.KeyEnrolled) { f.Name = "hers" },
		"another statement": func(e *ledger.Entry, _ *ledger.KeyEnrolled) { e.Statement = other.Statement },
		"another signature": func(e *ledger.Entry, _ *ledger.KeyEnrolled) { e.SSHSIG = other.SSHSIG },
		"no signature":      func(e *ledger.Entry, _ *ledger.KeyEnrolled) { e.SSHSIG = "" },
		"no attestation":    func(_ *ledger.Entry, f *ledger.KeyEnrolled) { f.Attestation = nil },
		"another key's attestation": func(_ *ledger.Entry, f *ledger.KeyEnrolled) {
			f.Attestation = other.Facts.(*ledger.KeyEnrolled).Attestation
		},
		"a chain of nothing":        func(_ *ledger.Entry, f *ledger.KeyEnrolled) { f.Attestation.Chain = nil },
		"said to be a software key": func(_ *ledger.Entry, f *ledger.KeyEnrolled) { f.Software = true },
		"an entry of another type":  func(e *ledger.Entry, _ *ledger.KeyEnrolled) { e.Facts = &ledger.CAStarted{Version: "x"} },
		"a signature of another use": func(e *ledger.Entry, _ *ledger.KeyEnrolled) {
			e.Statement = strings.Replace(e.Statement, "enrolment v1", "pass v1", 1)
		},
	} {
		if _, err := check(change); !errors.Is(err, ErrEnrolment) {
			t.Errorf("%s: %v", what, err)
		}
	}
	site := l.Site
	site.Origin = "other/production"
	b, err := ledger.Encode(raw(p.Fingerprint))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckNewKey(string(b), site); !errors.Is(err, ErrEnrolment) {
		t.Errorf("of another site: %v", err)
	}
	id := k.ID
	for what, listed := range map[string]api.Enrolment{
		"as it is":          {ID: id, Signed: k.Signed, Entry: api.ProvenEntry{Entry: string(b)}},
		"under another id":  {ID: "0", Signed: k.Signed, Entry: api.ProvenEntry{Entry: string(b)}},
		"with another hash": {ID: id, Signed: sha256.Sum256(nil), Entry: api.ProvenEntry{Entry: string(b)}},
	} {
		_, err := CheckEnrolments(&api.EnrolmentList{Enrolments: []api.Enrolment{listed}}, l.Site)
		if (err == nil) != (what == "as it is") {
			t.Errorf("listed %s: %v", what, err)
		}
	}
}

// TestOnlyTheKeyMeantIsAsked: a renewal never blinks on another key, and a loss never on the one that is lost.
func TestOnlyTheKeyMeantIsAsked(t *testing.T) {
	a, b := newKey(t).PublicKey(), newKey(t).PublicKey()
	hand := func() *api.Challenge {
		return &api.Challenge{Keys: []api.KeyHandle{{Name: "desk", PublicKey: authorized(a)}, {Name: "safe", PublicKey: authorized(b)}}}
	}
	fp := ssh.FingerprintSHA256(b)
	ch, err := only(hand(), nil, func(s string) bool { return s == fp })
	if err != nil || len(ch.Keys) != 1 || ch.Keys[0].Name != "safe" {
		t.Errorf("%v %v", ch, err)
	}
	if _, err := only(hand(), nil, func(s string) bool { return false }); !errors.Is(err, ErrKeyNotOffered) {
		t.Errorf("none of them: %v", err)
	}
}
