package ledger_test

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// works is a founded production site with a standby session CA, and what its people do.
type works struct {
	*ledgertest.Log
	vendor     *attesttest.Vendor
	alice, bob *ledgertest.Person
	old, next  ssh.Signer
	jump       *ledgertest.Jump
}

func newWorks(t testing.TB, v *attesttest.Vendor) *works {
	w := &works{Log: ledgertest.Production(t, v), vendor: v}
	w.old, w.next = w.SessionCA, w.Standby()
	w.alice = w.EnrolAttested("alice", v, v.Key("1234"), ledgertest.Challenge(1))
	w.bob = w.EnrolAttested("bob", v, v.Key("1234"), ledgertest.Challenge(2))
	w.jump = w.Join("jump-a")
	w.Found(w.alice)
	w.Recipient(w.alice, bobsAge)
	w.Now = w.Now.Add(time.Second)
	return w
}

func (w *works) session() {
	w.IssueSession(w.Open(w.Grant(w.alice, nil), w.jump, []string{bobsAge}, []name.Person{"alice"}))
}

func (w *works) findings(t testing.TB) []ledger.Finding {
	t.Helper()
	r, err := ledger.Verify(ledgertest.All(w.Entries), w.Checkpoint(), w.VKey)
	if err != nil {
		t.Fatal(err)
	}
	return r.Findings
}

func site(e *ledger.Entry) *ledger.Site { return &e.Facts.(*ledger.SiteChanged).Site }

// TestRotationsMangled: who holds the log's key and the CA's machine makes no CA key count that no operator ordered, and forgets none that counted.
func TestRotationsMangled(t *testing.T) {
	v := attesttest.New(t)
	stranger := ledgertest.NewKey(t)
	strange := ledgertest.Line(stranger.PublicKey())
	// bent is a rotation that alice ordered and somebody edited; on it nothing else is wrong.
	bent := func(f func(w *works, s *ledger.Site)) func(*works) {
		return func(w *works) { w.Rotate(w.alice, w.next, func(e *ledger.Entry) { f(w, site(e)) }) }
	}
	retired := func(f func(w *works, s *ledger.Site)) func(*works) {
		return func(w *works) {
			w.Rotate(w.alice, w.next, nil)
			w.Retire(w.alice, w.old.PublicKey(), func(e *ledger.Entry) { f(w, site(e)) })
		}
	}
	started := func(of func(w *works) ledger.LoadedKey) func(*works) {
		return func(w *works) {
			w.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.CAStarted{Version: "test", Keys: []ledger.LoadedKey{of(w)}}})
		}
	}
	fp := func(k ssh.Signer) string { return ssh.FingerprintSHA256(k.PublicKey()) }
	for what, c := range map[string]struct {
		do   func(*works)
		code ledger.Code // "": no fault
	}{
		"a rotation and what comes after it": {func(w *works) {
			w.session()
			third := w.Rotate(w.alice, w.next, nil)
			w.session()
			w.Retire(w.alice, w.old.PublicKey(), nil)
			w.session()
			w.Rotate(w.alice, third, nil)
			w.session()
		}, ""},
		"a start with the active key, sealed": {started(func(w *works) ledger.LoadedKey {
			return ledger.LoadedKey{Name: "session_ca", Fingerprint: fp(w.old), Custody: "sealed"}
		}), ""},
		"a start with the standby key": {started(func(w *works) ledger.LoadedKey {
			return ledger.LoadedKey{Name: "session_ca", Fingerprint: fp(w.next), Custody: "sealed"}
		}), ledger.FaultSite},
		"a start with a plain file": {started(func(w *works) ledger.LoadedKey {
			return ledger.LoadedKey{Name: "session_ca", Fingerprint: fp(w.old), Custody: "file"}
		}), ledger.FaultSite},
		"local root rotates":    {func(w *works) { w.Rotate(nil, w.next, nil) }, ledger.FaultSignature},
		"local root retires":    {func(w *works) { w.Retire(nil, w.next.PublicKey(), nil) }, ledger.FaultSignature},
		"local root adds a key": {func(w *works) { w.Standby() }, ledger.FaultSignature},
		"a rotation to another key than was ordered": {func(w *works) {
			third := w.Rotate(w.alice, w.next, nil)
			w.Rotate(w.alice, w.old, func(e *ledger.Entry) {
				s := site(e)
				s.SessionCA[0], s.SessionCA[2] = ledgertest.Line(third.PublicKey()), s.SessionCA[0]
			})
		}, ledger.FaultStatement},
		"an order given twice": {func(w *works) {
			var first *ledger.Entry
			w.Rotate(w.alice, w.next, func(e *ledger.Entry) { first = e })
			w.Rotate(w.alice, w.old, nil)
			w.Rotate(w.alice, w.next, func(e *ledger.Entry) { e.Statement, e.SSHSIG = first.Statement, first.SSHSIG })
		}, ledger.FaultReplay},
		"an order in the name of who did not sign": {func(w *works) {
			w.Rotate(w.alice, w.next, func(e *ledger.Entry) { e.Actor, e.Subject.Person = "person:bob", "bob" })
		}, ledger.FaultStatement},
		"a retirement that passes for a rotation": {func(w *works) {
			w.Rotate(w.alice, w.next, func(e *ledger.Entry) {
				e.Statement, e.SSHSIG = w.SignOrder(w.alice, "retire-key", "session_ca:"+fp(w.next), "old", [32]byte{}, nil)
			})
		}, ledger.FaultStatement},
		"an active key that nobody was told to trust": {bent(func(w *works, s *ledger.Site) { s.SessionCA[0] = strange }), ledger.FaultSite},
		"no active key":            {bent(func(w *works, s *ledger.Site) { s.SessionCA = nil }), ledger.FaultSite},
		"a rotation that adds two": {bent(func(w *works, s *ledger.Site) { s.SessionCA = append(s.SessionCA, strange) }), ledger.FaultStatement},
		"a rotation that puts a stranger's key before the old one": {bent(func(w *works, s *ledger.Site) {
			s.SessionCA = slices.Insert(s.SessionCA, 1, strange)
			s.SessionCA = s.SessionCA[:3]
		}), ledger.FaultStatement},
		"a rotation that drops the old key unnamed": {bent(func(w *works, s *ledger.Site) { s.SessionCA = slices.Delete(s.SessionCA, 1, 2) }), ledger.FaultSite},
		"a rotation of two kinds at once":           {bent(func(w *works, s *ledger.Site) { s.HostCA = append(slices.Clone(s.HostCA), strange) }), ledger.FaultSite},
		"a TLS key beside it": {bent(func(w *works, s *ledger.Site) {
			s.TLS = append(slices.Clone(s.TLS), hex.EncodeToString([]byte(strings.Repeat("x", 32))))
		}), ledger.FaultSite},
		"a retirement that brings a new key": {retired(func(w *works, s *ledger.Site) { s.SessionCA = append(s.SessionCA, strange) }), ledger.FaultStatement},
		"a retirement that makes another key active": {retired(func(w *works, s *ledger.Site) {
			slices.Reverse(s.SessionCA)
		}), ledger.FaultStatement},
		"a retirement of more than was ordered": {retired(func(w *works, s *ledger.Site) {
			s.Retired = append(s.Retired, ledger.RetiredKey{Kind: "session_ca", Key: s.SessionCA[1], Before: s.Retired[0].Before})
			s.SessionCA = s.SessionCA[:1]
		}), ledger.FaultStatement},
		"a retired key that stays trusted": {retired(func(w *works, s *ledger.Site) { s.SessionCA = append(s.SessionCA, s.Retired[0].Key) }), ledger.FaultSite},
		"a retired key as of another day":  {retired(func(w *works, s *ledger.Site) { s.Retired[0].Before-- }), ledger.FaultSite},
		"a key retired as another kind":    {retired(func(w *works, s *ledger.Site) { s.Retired[0].Kind = "host_ca" }), ledger.FaultSite},
		"a retired key that never was trusted": {retired(func(w *works, s *ledger.Site) {
			s.Retired = append(s.Retired, ledger.RetiredKey{Kind: "session_ca", Key: strange, Before: s.Retired[0].Before})
		}), ledger.FaultSite},
		"a retired key that is forgotten": {func(w *works) {
			third := w.Rotate(w.alice, w.next, nil)
			w.Retire(w.alice, w.old.PublicKey(), nil)
			w.Rotate(w.alice, third, func(e *ledger.Entry) { site(e).Retired = nil })
		}, ledger.FaultSite},
		"a retired key whose day is moved": {func(w *works) {
			third := w.Rotate(w.alice, w.next, nil)
			w.Retire(w.alice, w.old.PublicKey(), nil)
			w.Rotate(w.alice, third, func(e *ledger.Entry) {
				s := site(e)
				s.Retired = slices.Clone(s.Retired)
				s.Retired[0].Before += 100
			})
		}, ledger.FaultSite},
		"a retired key that comes back": {func(w *works) {
			w.Rotate(w.alice, w.next, nil)
			w.Retire(w.alice, w.old.PublicKey(), nil)
			w.Rotate(w.alice, w.old, nil)
		}, ledger.FaultSite},
		"a session certificate by a retired key": {func(w *works) {
			w.Rotate(w.alice, w.next, nil)
			w.Retire(w.alice, w.old.PublicKey(), nil)
			w.SessionCA = w.old
			w.session()
		}, ledger.FaultCertificate},
		"a session certificate by a stranger's key": {func(w *works) {
			w.SessionCA = stranger
			w.session()
		}, ledger.FaultCertificate},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorks(t, v)
			if f := w.findings(t); len(f) > 0 {
				t.Fatalf("before: %v", f)
			}
			before := int64(len(w.Entries))
			c.do(w)
			found := w.findings(t)
			if c.code == "" && len(found) > 0 || c.code != "" && !slices.ContainsFunc(found, func(f ledger.Finding) bool { return f.Code == c.code }) {
				t.Errorf("want %q: %v", c.code, found)
			}
			for _, f := range found {
				if f.Index < before {
					t.Errorf("an honest entry is blamed: %v", f)
				}
			}
		})
	}
}
