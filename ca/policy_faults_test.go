package ca_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TestCommitFailsForThePolicy: a policy comes into force with its entry, or neither does; and who decides next decides by what stands.
func TestCommitFailsForThePolicy(t *testing.T) {
	commitFails(t, newFaulty, []gate{{"a policy", "policy.adopted", func(s *faulty) attempt {
		s.n++
		text := fmt.Sprintf("%s\n# the %d.\n", faultyPolicy, s.n)
		_, err := s.alice.Propose(text)
		catest.Must(s.t, err)
		st, err := s.alice.ReadPolicy()
		catest.Must(s.t, err)
		ch, err := s.alice.Client.AskPolicy(ctx, api.PolicyAsk{Person: "alice", Policy: st.Proposal.Policy, Previous: st.Policy, Changes: st.Proposal.Changes})
		catest.Must(s.t, err)
		return attempt{
			act: func() error {
				st, err := s.alice.Client.SignPolicy(ctx, ch.ID, api.Signed{SSHSIG: s.alice.Sign(ch)})
				if err != nil && st != nil {
					s.t.Errorf("an error and an answer: %+v", st)
				}
				return err
			},
			stood: s.decidesByTheLast,
		}
	}, false}})
}

// decidesByTheLast demands that what the ledger adopted last is in force, and that the CA's next decision is by that.
func (s *faulty) decidesByTheLast() error {
	if _, err := s.alice.Request("root", "web01"); err != nil {
		return err
	}
	var last, by statement.Hash
	for _, e := range s.Entries() {
		switch f := e.Facts.(type) {
		case *ledger.PolicyAdopted:
			last = f.SHA256
		case *ledger.GrantAllowed:
			by = f.Used.Policy
		}
	}
	if st, err := s.PolicyState(ctx, false); err != nil || by != last || st.Policy != last {
		return fmt.Errorf("decided by %s, in force is %s, the ledger's last is %s: %w", by, st.Policy, last, err)
	}
	return nil
}

// TestKilledWhileThePolicyChanges: wherever the kill falls, what somebody was told is in force is in the ledger, what is in force after the start is what
// the ledger says, and no decision stands behind a policy that it was not made by.
func TestKilledWhileThePolicyChanges(t *testing.T) {
	c := catest.New(t, catest.Config{Limits: many})
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	told := 0
	for round := range 3 {
		c.Stop()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.count=1")
		cmd.Env = append(os.Environ(), childDir+"="+c.Dir)
		catest.Must(t, cmd.Start())
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if conn, err := net.Dial("tcp", c.Address); err == nil {
				conn.Close()
				break
			} else if time.Now().After(end) {
				cmd.Process.Kill()
				cmd.Wait()
				t.Fatal(err)
			}
		}
		var adopted []statement.Hash
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		var wg sync.WaitGroup
		wg.Go(func() { // one who changes it
			defer begin()
			for i := 0; ; i++ {
				text := fmt.Sprintf("%s\n# %d.%d\n", catest.Policy, round, i)
				cl, err := alice.Pass()
				if err != nil {
					return
				}
				st, err := cl.ProposePolicy(ctx, text)
				if err != nil {
					return
				}
				st, err = alice.SignPolicy(api.PolicyAsk{Policy: st.Proposal.Policy, Previous: st.Policy, Changes: st.Proposal.Changes})
				if err != nil {
					return
				}
				if !st.Adopted {
					t.Error("signed and not adopted")
				}
				adopted = append(adopted, hashOf(text))
				begin()
			}
		})
		wg.Go(func() { // and one who is refused by it all the while
			for {
				_, err := bob.Request("root", "web01")
				if pr := (*api.Problem)(nil); !errors.As(err, &pr) {
					return
				}
			}
		})
		<-begun
		time.Sleep(rand.N(300 * time.Millisecond))
		cmd.Process.Kill()
		wg.Wait()
		cmd.Wait()
		c.Start()
		stands := map[statement.Hash]bool{}
		var last statement.Hash
		for _, e := range c.Entries() {
			if f, ok := e.Facts.(*ledger.PolicyAdopted); ok {
				stands[f.SHA256], last = true, f.SHA256
			}
		}
		for _, h := range adopted {
			if !stands[h] {
				t.Errorf("round %d: somebody was told that %s is in force", round, h)
			}
		}
		told += len(adopted)
		if st, err := c.PolicyState(ctx, false); err != nil || st.Policy != last {
			t.Errorf("round %d: in force is %s, the ledger says %s: %v", round, st.Policy, last, err)
		}
		c.Audit()
	}
	if told == 0 {
		t.Error("nobody changed it")
	}
	t.Logf("%d changes were told and stand", told)
}

// TestWhatLivesMeetsTheNextPolicy: requests that wait, grants that run, people, readers.
func TestWhatLivesMeetsTheNextPolicy(t *testing.T) {
	adopt := func(s *stage, old, text string) {
		t.Helper()
		st, err := s.PolicyState(ctx, true)
		catest.Must(t, err)
		if !strings.Contains(st.Text, old) {
			t.Fatalf("the policy has no %q", old)
		}
		_, err = s.alice.Propose(strings.Replace(st.Text, old, text, 1))
		catest.Must(t, err)
		if st, err = s.alice.SignProposal(); err != nil || !st.Adopted {
			t.Fatalf("%+v, %v", st, err)
		}
	}
	for _, c := range []struct {
		what string
		do   func(*testing.T, *stage)
	}{
		{"a request that waits is approved by whom the next policy names", func(t *testing.T, s *stage) {
			carol := s.Enrol("carol")
			a, err := s.alice.Ask("root", "db01", nil)
			catest.Must(t, err)
			adopt(s, `approvers = ["bob"]`, `approvers = ["carol"]`)
			if _, err := s.bob.Verdict(a, statement.Approve, nil); err == nil {
				t.Error("bob's yes counts, whom the policy in force doesn't name")
			}
			_, err = carol.Verdict(a, statement.Approve, nil)
			catest.Must(t, err)
			_, err = a.Grant()
			catest.Must(t, err)
			st, err := s.PolicyState(ctx, false)
			catest.Must(t, err)
			n := 0
			for _, e := range s.Entries() {
				if f, ok := e.Facts.(*ledger.GrantAllowed); ok {
					if n++; f.Used.Policy != st.Policy {
						t.Errorf("decided by %s", f.Used.Policy)
					}
				}
			}
			if n != 1 {
				t.Errorf("%d decisions", n)
			}
		}},
		{"a grant opens no session that the next policy refuses", func(t *testing.T, s *stage) {
			g := s.grant(t)
			_, err := s.jump.Open(s.jump.Question(g))
			catest.Must(t, err)
			adopt(s, "[people.carol]\n", "[people.carol]\ngroups = [\"others\"]\n")
			_, err = s.jump.Open(s.jump.Question(g))
			catest.Must(t, err) // it has nothing to do with it
			adopt(s, `hosts = ["web01", "lb*"]`, `hosts = ["lb*"]`)
			if _, err = s.jump.Open(s.jump.Question(g)); codeOf(err) != api.CodeSession {
				t.Errorf("a session on a host that the rule no longer names: %v", err)
			}
		}},
		{"who is no longer named does nothing more", func(t *testing.T, s *stage) {
			cl, err := s.bob.Pass()
			catest.Must(t, err)
			st, err := s.PolicyState(ctx, true)
			catest.Must(t, err)
			text := strings.NewReplacer("[people.bob]\n", "", `"bob"`, `"carol"`).Replace(st.Text)
			_, err = s.alice.Propose(text)
			catest.Must(t, err)
			_, err = s.alice.SignProposal()
			catest.Must(t, err)
			if _, err := cl.Policy(ctx); codeOf(err) != api.CodePass {
				t.Errorf("bob's pass reads: %v", err)
			}
			if _, err := s.bob.Pass(); err == nil {
				t.Error("bob has a new pass")
			}
			if _, err := s.bob.Request("root", "web01"); err == nil {
				t.Error("bob is let in")
			}
		}},
		{"recordings are sealed to the readers of the policy in force", func(t *testing.T, s *stage) {
			carol := s.Enrol("carol")
			_, err := carol.Recipient((&faulty{CA: s.CA, t: t}).age())
			catest.Must(t, err)
			readers := func() string {
				t.Helper()
				_, err := s.jump.Open(s.jump.Question(s.grant(t)))
				catest.Must(t, err)
				all := s.Entries()
				for i := len(all) - 1; i >= 0; i-- {
					if f, ok := all[i].Facts.(*ledger.SessionOpened); ok {
						return fmt.Sprint(f.Readers)
					}
				}
				return ""
			}
			if got := readers(); got != "[bob]" {
				t.Errorf("before: %s", got)
			}
			adopt(s, `readers = ["bob"]`, `readers = ["carol"]`)
			if got := readers(); got != "[carol]" {
				t.Errorf("after: %s", got)
			}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newStage(t)
			c.do(t, s)
			s.Audit()
		})
	}
}
