package ca_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/ledger"
)

const childDir = "BREAKGLASS_CA_TEST_DIR"

// TestKilledWhileIssuing kills the CA's process in the middle of its work: each certificate that somebody got is in the ledger, and the
// ledger is whole.
func TestKilledWhileIssuing(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		c, err := ca.Open(ca.Config{Dir: dir})
		catest.Must(t, err)
		t.Fatal(c.Serve(context.Background()))
	}
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("N")); err == nil && n > 0 {
		rounds = n
	}
	c := catest.New(t, catest.Config{})
	people := []*catest.Person{c.Enrol("alice")}
	for range rounds {
		c.Stop()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileIssuing$", "-test.count=1")
		cmd.Env = append(os.Environ(), childDir+"="+c.Dir)
		catest.Must(t, cmd.Start())
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if conn, err := net.Dial("tcp", c.Address); err == nil {
				conn.Close()
				break
			} else if time.Now().After(end) {
				cmd.Process.Kill()
				t.Fatal(err)
			}
		}
		var mu sync.Mutex
		var got []string
		var wg sync.WaitGroup
		var n atomic.Int64
		for _, p := range people {
			wg.Go(func() {
				for {
					g, err := p.Request("root", "web01")
					if err != nil {
						if pr := (*api.Problem)(nil); errors.As(err, &pr) {
							t.Errorf("before the kill: %v", err)
						}
						return
					}
					mu.Lock()
					got = append(got, g.Certificate)
					mu.Unlock()
					if n.Add(1) == 12 {
						cmd.Process.Kill()
					}
				}
			})
		}
		wg.Wait()
		cmd.Wait()
		c.Start()
		issued := map[string]bool{}
		for _, e := range c.Entries() {
			if f, ok := e.Facts.(*ledger.CertificateIssued); ok {
				issued[f.Certificate] = true
			}
		}
		if len(got) < 12 {
			t.Errorf("only %d certificates before the kill", len(got))
		}
		for _, cert := range got {
			if !issued[cert] {
				t.Errorf("a certificate was handed out that the ledger lacks: %.80s", cert)
			}
		}
		c.Audit()
	}
}

// TestOneNonceOneCertificate: of many answers to one statement exactly one gets a certificate.
func TestOneNonceOneCertificate(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	for range 3 { // a network's burst is bounded
		ch, err := alice.Client.Ask(context.Background(), alice.Want(catest.NewKey(t).PublicKey()))
		catest.Must(t, err)
		var answers []string
		for range 8 {
			answers = append(answers, alice.Sign(ch))
		}
		var won atomic.Int64
		var wg sync.WaitGroup
		for _, a := range answers {
			wg.Go(func() {
				if _, err := alice.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: a}); err == nil {
					won.Add(1)
				} else if p := problem(t, err); p.Code != api.CodeExpired {
					t.Errorf("a loser reads %s", p.Code)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d certificates for one statement", won.Load())
		}
	}
	c.Audit()
}

// TestRestartForgetsStatementsAndNothingElse: what waited for a signature has to be asked for again; what was decided stands.
func TestRestartForgetsStatementsAndNothingElse(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	g, err := alice.Request("root", "web01")
	catest.Must(t, err)
	ch, err := alice.Client.Ask(context.Background(), alice.Want(catest.NewKey(t).PublicKey()))
	catest.Must(t, err)
	c.Stop()
	c.Start()
	if _, err := alice.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: alice.Sign(ch)}); problem(t, err).Code != api.CodeExpired {
		t.Errorf("a statement of before: %v", err)
	}
	st, err := c.Client(g.Key).Request(context.Background(), g.ID)
	if err != nil || st.State != "allowed" || st.Granted.Certificate != g.Certificate {
		t.Errorf("a grant of before: %+v, %v", st, err)
	}
	if _, err := bob.Pass(); err != nil {
		t.Error(err)
	}
	var started, stopped int
	for _, e := range c.Entries() {
		switch e.Facts.(type) {
		case *ledger.CAStarted:
			started++
		case *ledger.CAStopped:
			stopped++
		}
	}
	if started != 2 || stopped != 1 {
		t.Errorf("%d starts and %d stops are recorded", started, stopped)
	}
	c.Audit()
}
