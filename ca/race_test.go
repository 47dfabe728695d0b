package ca_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/ca/catest"
	"breakglass/internal/softkey"
)

// racers is how many clients want the same thing at the same time.
const racers = 100

// race runs all at once and counts the winners and what the losers read.
func race(t *testing.T, all []func() error) (won int, lost map[string]int) {
	t.Helper()
	lost = map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, fn := range all {
		wg.Go(func() {
			<-start
			err := fn()
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if p := (*api.Problem)(nil); errors.As(err, &p) {
				lost[p.Code]++
			} else {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	return won, lost
}

// wantOne checks that one won and all others read code.
func wantOne(t *testing.T, all []func() error, code string) {
	t.Helper()
	if won, lost := race(t, all); won != 1 || lost[code] != racers-1 {
		t.Errorf("%d won; the losers read %v, want %d × %s", won, lost, racers-1, code)
	}
}

// own gives a client with a connection of its own, as a hundred people have, that is open already: the race is not one of handshakes.
func own(t *testing.T, c *catest.CA) *client.Client {
	t.Helper()
	cl := c.Client(nil)
	_, err := cl.Checkpoint(ctx)
	catest.Must(t, err)
	return cl
}

func TestRaces(t *testing.T) {
	// stopped is where the clock stands still: a counter that did not rise is then late, and no clone.
	var stopped atomic.Pointer[time.Time]
	now := func() time.Time {
		if at := stopped.Load(); at != nil {
			return *at
		}
		return time.Now()
	}
	for _, r := range []struct {
		what string
		typ  string // of the entry that only one may leave
		run  func(*testing.T, *catest.CA)
	}{
		{"many answers to one statement, some of them the same: one certificate", "certificate.issued", func(t *testing.T, c *catest.CA) {
			alice := c.Enrol("alice")
			ch, err := alice.Client.Ask(ctx, alice.Want(catest.NewKey(t).PublicKey()))
			catest.Must(t, err)
			var all []func() error
			sig := alice.Sign(ch)
			for i := range racers {
				if i%2 == 0 {
					sig = alice.Sign(ch)
				}
				answer, cl := sig, own(t, c)
				all = append(all, func() error { _, err := cl.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: answer}); return err })
			}
			wantOne(t, all, api.CodeExpired)
		}},
		{"many statements signed with one counter: one certificate", "certificate.issued", func(t *testing.T, c *catest.CA) {
			alice := c.Enrol("alice")
			ch, err := alice.Client.Ask(ctx, alice.Want(catest.NewKey(t).PublicKey()))
			catest.Must(t, err)
			alice.Sign(ch) // the counter rises once, and this answer is never sent
			at := time.Now()
			stopped.Store(&at)
			alice.Key.SetFaults(softkey.Faults{FrozenCounter: true})
			var all []func() error
			for range racers {
				ch, err := alice.Client.Ask(ctx, alice.Want(catest.NewKey(t).PublicKey()))
				catest.Must(t, err)
				answer, cl := alice.Sign(ch), own(t, c)
				all = append(all, func() error { _, err := cl.SignRequest(ctx, ch.ID, api.Signed{SSHSIG: answer}); return err })
			}
			wantOne(t, all, api.CodeLate)
		}},
		{"many new keys with one invite: one enrolled", "key.enrolled", func(t *testing.T, c *catest.CA) {
			token := c.Token("alice")
			var all []func() error
			for range racers {
				p := c.Stranger("alice")
				e, err := p.Client.Enrol(ctx, api.EnrolAsk{Invite: token.Secret, Key: "soft"})
				catest.Must(t, err)
				cred, err := p.Key.Enroll(api.Application, e.Challenge, true)
				catest.Must(t, err)
				p.Credential = cred
				ch, err := p.Client.EnrolKey(ctx, e.ID, api.EnrolKey{PublicKey: catest.Line(cred.PublicKey), CredentialID: cred.CredentialID,
					Format: cred.Format, AuthData: cred.AuthData, Cert: cred.Cert, Signature: cred.Signature})
				catest.Must(t, err)
				answer := p.Sign(ch)
				all = append(all, func() error { _, err := p.Client.SignEnrolment(ctx, ch.ID, api.Signed{SSHSIG: answer}); return err })
			}
			wantOne(t, all, api.CodeInvite)
		}},
		{"many jumps with one token: one joined", "jump.joined", func(t *testing.T, c *catest.CA) {
			token := c.JumpToken("jump-a")
			var all []func() error
			for range racers {
				ask := &api.JoinAsk{Invite: token.Secret, Key: catest.Line(catest.NewKey(t).PublicKey()), HostKey: catest.Line(catest.NewKey(t).PublicKey()),
					Addresses: []string{"127.0.0.1:2222"}, Source: []string{"127.0.0.1"}}
				cl := own(t, c)
				all = append(all, func() error { _, err := cl.Join(ctx, ask); return err })
			}
			wantOne(t, all, api.CodeInvite)
		}},
	} {
		t.Run(r.what, func(t *testing.T) {
			stopped.Store(nil)
			c := catest.New(t, catest.Config{Limits: many, Now: now})
			r.run(t, c)
			n := 0
			for _, e := range c.Entries() {
				if string(e.Type()) == r.typ {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d entries %s", n, r.typ)
			}
			c.Audit()
		})
	}
}
