package ca_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// faultyPolicy lets nobody's answer be overridden soon.
var faultyPolicy = strings.Replace(catest.Policy, `approvers = ["bob"]`, `approvers = ["bob"]`+"\noverride = \"after 1s\"", 1)

// order is an operator's, up to the signature.
func (s *faulty) order(p *catest.Person, q api.OrderAsk) attempt {
	s.t.Helper()
	q.Person = string(p.Name)
	ch, err := p.Client.Order(ctx, q)
	catest.Must(s.t, err)
	return attempt{act: func() error {
		_, err := p.Client.SignOrder(ctx, ch.ID, api.SignedOrder{SSHSIG: p.Sign(ch)})
		return err
	}}
}

// standby is the place of a standby key that the site trusts: what a try that came to nothing left beside it is none.
func (s *faulty) standby(key string, of func(*ledger.Site) []string, open func([]byte) []byte) string {
	s.t.Helper()
	site, err := s.SiteAnswer(ctx)
	catest.Must(s.t, err)
	files, err := filepath.Glob(filepath.Join(s.Dir, "standby-keys", key+"*"))
	catest.Must(s.t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		catest.Must(s.t, err)
		k, err := ssh.ParsePrivateKey(open(b))
		catest.Must(s.t, err)
		if slices.Contains(of(&site.Site)[1:], catest.Line(k.PublicKey())) {
			return f
		}
	}
	s.t.Fatalf("no standby %s in %v", key, files)
	return ""
}

// signs demands that the CA signs with the key that its ledger calls active.
func (s *faulty) signs(kind string, of func(*ledger.Site) []string, line func() (string, error)) error {
	site, err := s.SiteAnswer(ctx)
	if err != nil {
		return err
	}
	text, err := line()
	if err != nil {
		return err
	}
	c, err := sshcert.Parse([]byte(text))
	if err != nil {
		return err
	}
	if got, want := catest.Line(c.SignatureKey), of(&site.Site)[0]; got != want {
		return fmt.Errorf("the CA signs with %s, its ledger's active %s is %s", got, kind, want)
	}
	return nil
}

func clientCAs(s *ledger.Site) []string  { return s.ClientCA }
func sessionCAs(s *ledger.Site) []string { return s.SessionCA }

// TestCommitFailsForPeople is TestCommitFails for what people and local root do in a demo.
func TestCommitFailsForPeople(t *testing.T) {
	commitFails(t, newFaulty, []gate{
		{"an override", "request.overridden", func(s *faulty) attempt {
			a, err := s.alice.Ask("root", "db01", nil)
			catest.Must(s.t, err)
			s.clock.forward(2 * time.Second)
			ch, err := s.alice.Client.Ask(ctx, catest.Again(a.Ask, statement.RequestOverride, a.ID, 0))
			catest.Must(s.t, err)
			return attempt{
				act: func() error {
					g, err := s.alice.Client.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: s.alice.Sign(ch)})
					if err != nil && g != nil {
						s.t.Errorf("an error and a certificate: %v", g.Certificate)
					}
					return err
				},
				stood: func() error {
					g, err := a.Grant()
					if err == nil && g.Certificate == "" {
						err = fmt.Errorf("its client key reads %+v", g.Granted)
					}
					return err
				},
			}
		}, false},
		{"an ordered invite", "invite.created", func(s *faulty) attempt {
			return s.order(s.alice, api.OrderAsk{Act: statement.OrderInvitePerson, Target: "carol", Detail: sha256.Sum256([]byte{byte(len(s.Raw()))})})
		}, false},
		{"a kill", "revoked", func(s *faulty) attempt {
			g, err := s.alice.Request("root", "web01")
			catest.Must(s.t, err)
			cl, err := s.bob.Pass()
			catest.Must(s.t, err)
			return attempt{
				act: func() error { _, err := cl.Kill(ctx, g.ID, api.StopAsk{Why: "what is this"}); return err },
				stood: func() error {
					if _, err := s.jump.Open(s.jump.Question(g)); codeOf(err) != api.CodeSession {
						return fmt.Errorf("a session under it: %w", err)
					}
					return nil
				},
			}
		}, false},
		{"a device that makes codes", "totp.enrolled", func(s *faulty) attempt {
			p := []*catest.Person{s.alice, s.bob}[s.n]
			s.n++
			d := p.Device("phone")
			ch, err := p.Client.TOTP(ctx, api.TOTPAsk{Person: string(p.Name), Act: statement.TOTPEnrol, Device: d.Name, Seed: hexSum(d.Seed.Sealed)})
			catest.Must(s.t, err)
			return attempt{act: func() error {
				_, err := p.Client.SignTOTP(ctx, ch.ID, api.TOTPSigned{SSHSIG: p.Sign(ch), TOTP: d.Code(s.clock.now()), Sealed: d.Seed.Sealed})
				return err
			}}
		}, false},
		{"a rotation", "site.changed", func(s *faulty) attempt {
			place := "file:" + s.standby(ca.KeySessionCA, sessionCAs, func(b []byte) []byte { return b })
			return attempt{
				act: func() error {
					r, err := s.Rotate(ctx, &ca.RotateAsk{Key: ca.KeySessionCA, Standby: place})
					if err != nil && r != nil {
						s.t.Errorf("an error and %+v", r)
					}
					return err
				},
				stood: func() error { // at once, not from the next start on
					return s.signs(ca.KeySessionCA, sessionCAs, func() (string, error) {
						g, err := s.alice.Request("root", "web01")
						if err != nil {
							return "", err
						}
						a, err := s.jump.Open(s.jump.Question(g))
						if err != nil {
							return "", err
						}
						return a.Opened.Certificate, nil
					})
				},
			}
		}, false},
		{"a retirement", "site.changed", func(s *faulty) attempt {
			site, err := s.SiteAnswer(ctx)
			catest.Must(s.t, err)
			list := site.Site.ClientCA
			if len(list) == 1 {
				list = site.Site.SessionCA
			}
			k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(list[len(list)-1]))
			catest.Must(s.t, err)
			return attempt{act: func() error { _, err := s.Retire(ctx, ssh.FingerprintSHA256(k)); return err }}
		}, false},
	})
}

func hexSum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// newFaultyTown is a production site: keys count once vouched for, and CA keys are sealed.
func newFaultyTown(t *testing.T) *faulty {
	s := unfoundedFaulty(t)
	s.town.desk, s.town.safe = s.Founded(townsfolk, []name.Person{"alice", "bob"})
	s.clock.forward(time.Second)
	return s
}

func unfoundedFaulty(t *testing.T) *faulty {
	v := attesttest.New(t)
	s := &faulty{t: t}
	s.CA = catest.New(t, catest.Config{Policy: townPolicy(v), Vendor: v, Limits: many, Commit: s.fault.commit, Now: s.clock.now})
	s.town = &town{CA: s.CA, t: t, clock: &s.clock}
	// A rotated key is sealed, and the next start has to open it.
	catest.Must(t, os.WriteFile(filepath.Join(filepath.Dir(s.Dir), "credentials", ca.CredentialPassphrase), []byte(catest.StandbyPassphrase+"\n"), 0o400))
	return s
}

// TestCommitFailsInProduction is TestCommitFails for the life of keys, and for what takes an operator there.
func TestCommitFailsInProduction(t *testing.T) {
	commitFails(t, newFaultyTown, []gate{
		{"a vouching", "key.vouched", func(s *faulty) attempt {
			s.n++
			q := s.town.desk["olga"].Invited("carol", fmt.Sprintf("key-%d", s.n))
			id, signed := q.Enrolment()
			by := s.town.desk["carol"]
			ch, err := by.Client.Approve(ctx, api.ApprovalAsk{Person: "carol", About: statement.AboutEnrolment, Of: id, Hash: signed, Verdict: statement.Approve})
			catest.Must(s.t, err)
			return attempt{
				act: func() error {
					_, err := by.Client.SignApproval(ctx, ch.ID, api.Signed{SSHSIG: by.Sign(ch)})
					return err
				},
				stood: func() error { // it cools off as if it had been heard of
					s.clock.forward(2 * time.Hour)
					_, err := q.Pass()
					return err
				},
			}
		}, false},
		{"a renewal", "enrolment.renewed", func(s *faulty) attempt {
			_, err := s.town.desk["alice"].Renew()
			catest.Must(s.t, err)
			p := s.town.safe["alice"]
			ch, err := p.Client.Renew(ctx, api.RenewalAsk{Person: "alice", Key: p.Fingerprint()})
			catest.Must(s.t, err)
			return attempt{act: func() error {
				st, err := p.Client.SignRenewal(ctx, ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
				if err == nil && !st.Renewed {
					err = fmt.Errorf("not renewed: %+v", st)
				}
				return err
			}}
		}, false},
		{"a loss", "revoked", func(s *faulty) attempt {
			s.n++
			q := s.town.desk["olga"].Invited("carol", fmt.Sprintf("key-%d", s.n))
			by := s.town.desk["carol"]
			ch, err := by.Client.Lose(ctx, api.LossAsk{Person: "carol", Key: q.Fingerprint(), Reason: "left in a taxi"})
			catest.Must(s.t, err)
			return attempt{
				act: func() error { _, err := by.Client.SignLoss(ctx, ch.ID, api.Signed{SSHSIG: by.Sign(ch)}); return err },
				stood: func() error {
					if err := s.town.request(q); codeOf(err) != api.CodeRevoked {
						return fmt.Errorf("the lost key asks: %w", err)
					}
					return nil
				},
			}
		}, false},
		{"an unlocking", "key.unlocked", func(s *faulty) attempt {
			p, by := s.town.desk["alice"], s.town.safe["alice"]
			if err := s.town.request(p); codeOf(err) != api.CodeSuspended { // the first time: a copy of it signs
				catest.Must(s.t, err)
				s.clock.forward(5 * time.Second)
				p.Key.SetFaults(softkey.Faults{FrozenCounter: true})
				s.town.wants("a counter that went back", api.CodeLate, s.town.request(p))
				p.Key.SetFaults(softkey.Faults{})
			}
			ch, err := by.Client.Approve(ctx, api.ApprovalAsk{Person: "alice", About: statement.AboutUnlock, Of: p.Fingerprint(),
				Hash: ledger.EntryHash(c1(s.t, s.CA, "key.suspended")), Verdict: statement.Approve})
			catest.Must(s.t, err)
			return attempt{
				act: func() error {
					_, err := by.Client.SignApproval(ctx, ch.ID, api.Signed{SSHSIG: by.Sign(ch)})
					return err
				},
				stood: func() error {
					if err := s.town.request(p); codeOf(err) == api.CodeSuspended {
						return err
					}
					return nil
				},
			}
		}, false},
		{"an ordered rotation", "site.changed", func(s *faulty) attempt {
			place := "sealed:" + s.standby(ca.KeyClientCA, clientCAs, func(b []byte) []byte { return catest.Unseal(s.t, b) })
			r, err := s.Rotate(ctx, &ca.RotateAsk{Key: ca.KeyClientCA, Standby: place, Passphrase: []byte(catest.StandbyPassphrase)})
			catest.Must(s.t, err)
			a := s.order(s.town.desk["olga"], api.OrderAsk{Act: statement.OrderRotateKey, Target: r.Order})
			a.stood = func() error { // at once, not from the next start on
				return s.signs(ca.KeyClientCA, clientCAs, func() (string, error) {
					g, err := s.town.desk["alice"].Request("root", "web01")
					if err != nil {
						return "", err
					}
					return g.Certificate, nil
				})
			}
			return a
		}, false},
		{"an ordered retirement", "site.changed", func(s *faulty) attempt {
			site, err := s.SiteAnswer(ctx)
			catest.Must(s.t, err)
			kind, list := ca.KeyClientCA, site.Site.ClientCA
			if len(list) == 1 {
				kind, list = ca.KeySessionCA, site.Site.SessionCA
			}
			k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(list[len(list)-1]))
			catest.Must(s.t, err)
			return s.order(s.town.desk["olga"], api.OrderAsk{Act: statement.OrderRetireKey, Target: kind + ":" + ssh.FingerprintSHA256(k), Reason: "its place was broken into"})
		}, false},
	})
}

// TestAnOrderThatFailedIsGivenAgain: what was prepared waits on, if nothing came of the order.
func TestAnOrderThatFailedIsGivenAgain(t *testing.T) {
	s := newFaultyTown(t)
	r, err := s.Rotate(ctx, &ca.RotateAsk{Key: ca.KeyClientCA, Standby: "sealed:" + filepath.Join(s.Dir, "standby-keys", "client_ca.age"), Passphrase: []byte(catest.StandbyPassphrase)})
	catest.Must(t, err)
	q := api.OrderAsk{Act: statement.OrderRotateKey, Target: r.Order}
	s.unknown(s.fault.during(lost, s.order(s.town.desk["olga"], q).act))
	catest.Must(t, s.order(s.town.desk["olga"], q).act())
	g, err := s.town.desk["alice"].Request("root", "web01")
	catest.Must(t, err)
	if got := signer(t, g.Certificate); got != r.Active {
		t.Errorf("a certificate is by %s, ordered was %s", got, r.Active)
	}
	s.Audit()
}

// TestCommitFailsAtTheFounding: a site is founded once, so what comes after a commit that stands is that nothing is left to found.
func TestCommitFailsAtTheFounding(t *testing.T) {
	for mode, what := range map[int32]string{lost: "did not persist", persisted: "persisted"} {
		t.Run(what, func(t *testing.T) {
			s := unfoundedFaulty(t)
			alice, bob := s.EnrolKey("alice", "desk"), s.EnrolKey("bob", "desk")
			s.EnrolKey("alice", "safe")
			s.EnrolKey("bob", "safe")
			st, err := alice.Found()
			catest.Must(t, err)
			ch, err := bob.Client.Found(ctx, api.FoundingAsk{Person: "bob", Policy: st.Policy, Owners: st.Owners, Keys: st.Keys})
			catest.Must(t, err)
			s.unknown(s.fault.during(mode, func() error {
				_, err := bob.Client.SignFounding(ctx, ch.ID, api.Signed{SSHSIG: bob.Sign(ch)})
				return err
			}))
			again := map[int32]string{lost: "", persisted: api.CodeFounded}[mode]
			ask := map[int32]string{lost: api.CodeNotFounded, persisted: ""}[mode]
			s.town.wants("a request after it", ask, s.town.request(alice))
			_, err = bob.SignFounding(api.FoundingAsk{Policy: st.Policy, Owners: st.Owners, Keys: st.Keys})
			s.town.wants("the founding again", again, err)
			if n := s.count("founding"); n != 1 {
				t.Errorf("%d entries founding", n)
			}
			s.Audit()
			s.Stop()
			s.Start()
			s.clock.forward(time.Second)
			s.town.wants("a request after a start", "", s.town.request(alice))
			s.Audit()
		})
	}
}
