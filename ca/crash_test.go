package ca_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/ledger"
)

const childDir = "BREAKGLASS_CA_TEST_DIR"

// toldFile is what the clients of TestKilled were told, one line each, outside of the CA's directory: "certificate TEXT", "pass ID" or
// "denied REQUEST".
type toldFile struct {
	t  testing.TB
	f  *os.File
	mu sync.Mutex
	n  map[string]int
}

func newToldFile(t testing.TB) *toldFile {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "told"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	catest.Must(t, err)
	t.Cleanup(func() { f.Close() })
	return &toldFile{t: t, f: f, n: map[string]int{}}
}

func (l *toldFile) add(what, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n[what]++
	if _, err := fmt.Fprintln(l.f, what, text); err != nil {
		l.t.Error(err)
	}
}

// each says whether something of each kind was told.
func (l *toldFile) each(whats ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !slices.ContainsFunc(whats, func(what string) bool { return l.n[what] == 0 })
}

// audit holds every line against the ledger, and the ledger against itself.
func (l *toldFile) audit(c *catest.CA) {
	l.t.Helper()
	stands := map[string]bool{}
	for _, e := range c.Entries() {
		switch f := e.Facts.(type) {
		case *ledger.CertificateIssued:
			stands["certificate "+f.Certificate] = true
		case *ledger.PassGranted:
			stands["pass "+f.Pass] = true
		case *ledger.RequestDenied:
			stands["denied "+string(e.Subject.Request)] = true
		}
	}
	_, err := l.f.Seek(0, io.SeekStart)
	catest.Must(l.t, err)
	lines := bufio.NewScanner(l.f)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		n++
		if !stands[lines.Text()] {
			l.t.Errorf("somebody was told what the ledger lacks: %.90s", lines.Text())
		}
	}
	catest.Must(l.t, lines.Err())
	if want := l.n["certificate"] + l.n["pass"] + l.n["denied"]; n != want {
		l.t.Errorf("the file has %d lines, %d were told", n, want)
	}
	c.Audit()
}

// TestKilled kills the CA's process at random points under load: whatever any client was told — a certificate, a pass, a refusal — is in the
// ledger, and the ledger is whole.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		c, err := ca.Open(ca.Config{Dir: dir})
		catest.Must(t, err)
		t.Fatal(c.Serve(context.Background()))
	}
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("N")); err == nil && n > 0 {
		rounds = n
	}
	const (
		clients = 6
		longest = 400 * time.Millisecond // until the kill, once somebody was answered
		fresh   = 20                     // rounds on one ledger: each audits all of it
	)
	var c *catest.CA
	var told *toldFile
	var people []*catest.Person
	total := map[string]int{}
	began := time.Now()
	for round := range rounds {
		if round%fresh == 0 {
			if c != nil {
				c.Stop()
			}
			c, told, people = catest.New(t, catest.Config{Policy: crowdPolicy(clients), Limits: many}), newToldFile(t), nil
			for i := range clients {
				people = append(people, c.Enrol(crowdPerson(i)))
			}
			people = append(people, c.Enrol("bob"))
		}
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
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		var wg sync.WaitGroup
		for i, p := range people {
			wg.Go(func() {
				for {
					var err error
					if i < clients {
						err = told.certificate(p)
					} else if err = told.pass(p); err == nil {
						err = told.denied(p)
					}
					if err != nil { // the CA is gone; it must not have answered
						if pr := (*api.Problem)(nil); errors.As(err, &pr) {
							t.Errorf("before the kill: %v", err)
						}
						begin()
						return
					}
					begin()
				}
			})
		}
		<-begun
		// The first is killed once each kind of answer was given, however slow the machine is; the others whenever it falls.
		for i := 0; round == 0 && !told.each("certificate", "pass", "denied") && i < 6000; i++ {
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(rand.N(longest))
		cmd.Process.Kill()
		wg.Wait()
		cmd.Wait()
		c.Start()
		told.audit(c)
		if (round+1)%fresh == 0 || round+1 == rounds {
			for what, n := range told.n {
				total[what] += n
			}
		}
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
	if total["certificate"] == 0 || total["pass"] == 0 || total["denied"] == 0 {
		t.Errorf("hardly anybody was told anything: %v", total)
	}
	t.Logf("%d kills in %v; told and in the ledger: %d certificates, %d passes, %d refusals", rounds, time.Since(began).Round(time.Second),
		total["certificate"], total["pass"], total["denied"])
}

func (l *toldFile) certificate(p *catest.Person) error {
	g, err := p.Request("root", "web01")
	if err == nil {
		l.add("certificate", g.Certificate)
	}
	return err
}

func (l *toldFile) pass(p *catest.Person) error {
	ch, err := p.Client.Pass(context.Background(), api.PassAsk{Person: string(p.Name), Holder: catest.Line(catest.NewKey(l.t).PublicKey())})
	if err != nil {
		return err
	}
	st, err := p.Client.SignPass(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
	if err == nil {
		l.add("pass", st.Pass)
	}
	return err
}

// denied asks for what no rule gives.
func (l *toldFile) denied(p *catest.Person) error {
	_, err := p.Request("root", "web01")
	if pr := (*api.Problem)(nil); errors.As(err, &pr) && pr.Code == api.CodeDenied {
		l.add("denied", string(pr.Request))
		return nil
	}
	if err == nil {
		l.t.Error("bob was let in, whom no rule lets in")
	}
	return err
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
