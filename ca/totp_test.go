package ca_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// handClock is the CA's, which a test moves.
type handClock struct {
	mu sync.Mutex
	at time.Time
}

// newClock stands still, a little ahead: what made the CA was dated by the machine's.
func newClock() *handClock {
	return &handClock{at: time.Now().Add(time.Hour).Truncate(30 * time.Second)}
}

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	return c.at
}

// totpPolicy has web01 ask for a code too.
var totpPolicy = strings.Replace(catest.Policy, `minutes = 30
forwards`, `minutes = 30
totp = true
forwards`, 1)

// code is the typed code of a refusal: of its first reason.
func code(err error) string {
	p := new(api.Problem)
	_, waits := client.NotGranted(err)
	switch {
	case err == nil:
		return ""
	case waits:
		return "waiting"
	case !errors.As(err, &p):
		return err.Error()
	case p.Code == api.CodeDenied && len(p.Reasons) > 0:
		return p.Reasons[0].Code
	}
	return p.Code
}

func count(c *catest.CA, typ ledger.Type) (n int) {
	for _, e := range c.Entries() {
		if e.Type() == typ {
			n++
		}
	}
	return n
}

func TestTOTP(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: totpPolicy, Now: clk.now})
	alice := c.Enrol("alice")
	bob := c.Enrol("bob")
	step := func() time.Time { return clk.add(30 * time.Second) }

	_, err := alice.RequestWith("root", "web01", "")
	if code(err) != "totp_missing" {
		t.Fatalf("without a code: %v", err)
	}
	_, err = alice.RequestWith("root", "web01", "123456")
	if code(err) != ledger.TOTPCodeNone {
		t.Fatalf("without a device: %v", err)
	}
	d := alice.Device("phone")
	if !strings.HasPrefix(d.Seed.URI, "otpauth://totp/breakglass%20test:alice?secret="+d.Seed.Secret+"&issuer=breakglass%20test&") {
		t.Errorf("URI %s", d.Seed.URI)
	}
	if _, err := d.Enrol("000000", ""); code(err) != ledger.TOTPCodeWrong {
		t.Fatalf("a wrong first code: %v", err)
	}
	first := d.Code(clk.now())
	if _, err := d.Enrol(first, ""); err != nil {
		t.Fatal(err)
	}
	// What confirmed the seed is used.
	if _, err := alice.RequestWith("root", "web01", first); code(err) != ledger.TOTPCodeReplay {
		t.Fatalf("the confirming code again: %v", err)
	}
	now := step()
	good := d.Code(now)
	spaced := good[:3] + " " + good[3:]
	g, err := alice.RequestWith("root", "web01", spaced)
	if err != nil {
		t.Fatalf("a code: %v", err)
	}
	for _, again := range []string{good, spaced, good[:3] + "-" + good[3:], " " + good, good + " "} {
		if _, err := alice.RequestWith("root", "web01", again); code(err) != ledger.TOTPCodeReplay {
			t.Errorf("%q again: %v", again, err)
		}
	}
	// The session is decided again, and stands on the same code.
	j := c.Join("jump-a")
	if _, err := bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Open(j.Question(g)); err != nil {
		t.Errorf("a session under the grant: %v", err)
	}
	// After a restart a used code is used.
	c.Stop()
	c.Start()
	if _, err := alice.RequestWith("root", "web01", good); code(err) != ledger.TOTPCodeReplay {
		t.Errorf("after a restart: %v", err)
	}
	// The half minute before and after count, once each, in order.
	now = step()
	step()
	if _, err := alice.RequestWith("root", "web01", d.Code(now)); err != nil {
		t.Errorf("of the half minute before: %v", err)
	}
	now = step()
	if _, err := alice.RequestWith("root", "web01", d.Code(now.Add(30*time.Second))); err != nil {
		t.Errorf("of the half minute after: %v", err)
	}
	if _, err := alice.RequestWith("root", "web01", d.Code(now)); code(err) != ledger.TOTPCodeReplay {
		t.Errorf("older than one that was used: %v", err)
	}
	// Too old, too new.
	step()
	now = step()
	for _, off := range []time.Duration{-2 * 30 * time.Second, 2 * 30 * time.Second} {
		if _, err := alice.RequestWith("root", "web01", d.Code(now.Add(off))); code(err) != ledger.TOTPCodeWrong {
			t.Errorf("off by %v: %v", off, err)
		}
	}
	// Another person's code.
	if _, err := bob.RequestWith("root", "web01", d.Code(now)); code(err) != ledger.TOTPCodeNone {
		t.Errorf("bob with alice's code: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}

// TestTOTPSpellings: one code has the spellings that people use, and no others.
func TestTOTPSpellings(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: totpPolicy, Now: clk.now})
	alice := c.Enrol("alice")
	d := alice.Device("phone")
	if _, err := d.Enrol(d.Code(clk.now()), ""); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		what string
		make func(code string) string
		want string
	}{
		{"full-width digits", func(c string) string {
			return strings.Map(func(r rune) rune { return r - '0' + '０' }, c)
		}, ledger.TOTPCodeWrong},
		{"Arabic digits", func(c string) string { return strings.Map(func(r rune) rune { return r - '0' + '٠' }, c) }, ledger.TOTPCodeWrong},
		{"a digit more", func(c string) string { return c + "0" }, ledger.TOTPCodeWrong},
		{"a digit less", func(c string) string { return c[:5] }, ledger.TOTPCodeWrong},
		{"spaces and dashes", func(c string) string { return " " + c[:2] + "-" + c[2:4] + " " + c[4:] + " " }, ""},
		{"a plus", func(c string) string { return "+" + c }, ledger.TOTPCodeWrong},
		{"a no-break space", func(c string) string { return c[:3] + "\u00a0" + c[3:] }, ledger.TOTPCodeWrong},
		{"plain", func(c string) string { return c }, ""},
		{"far too long", func(c string) string { return strings.Repeat(" ", 1000) + c }, ledger.TOTPCodeWrong},
	} {
		now := clk.add(30 * time.Second)
		if _, err := alice.RequestWith("root", "web01", s.make(d.Code(now))); code(err) != s.want {
			t.Errorf("%s: %v, want %q", s.what, err, s.want)
		}
	}
	if _, err := alice.RequestWith("root", "web01", "12\n3456"); code(err) != api.CodeBadRequest {
		t.Errorf("a line feed: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}

func TestTOTPLocks(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: totpPolicy, Now: clk.now})
	alice := c.Enrol("alice")
	d := alice.Device("phone")
	if _, err := d.Enrol(d.Code(clk.now()), ""); err != nil {
		t.Fatal(err)
	}
	wrong := func() {
		t.Helper()
		for {
			clk.add(30 * time.Second)
			bad := "271828"
			if now := clk.now(); bad == d.Code(now) || bad == d.Code(now.Add(30*time.Second)) || bad == d.Code(now.Add(-30*time.Second)) {
				continue
			}
			if _, err := alice.RequestWith("root", "web01", bad); code(err) != ledger.TOTPCodeWrong {
				t.Fatalf("wrong: %v", err)
			}
			return
		}
	}
	try := func() string {
		_, err := alice.RequestWith("root", "web01", d.Code(clk.add(30*time.Second)))
		return code(err)
	}
	for range ledger.TOTPTries - 1 {
		wrong()
	}
	c.Stop() // a restart forgives nothing
	c.Start()
	wrong()
	if got := try(); got != ledger.TOTPCodeLocked {
		t.Fatalf("after %d wrong codes: %q", ledger.TOTPTries, got)
	}
	c.Stop()
	c.Start()
	if got := try(); got != ledger.TOTPCodeLocked {
		t.Fatalf("after a restart: %q", got)
	}
	clk.add(ledger.TOTPLock)
	for range ledger.TOTPTries { // the second lock is twice as long
		wrong()
	}
	clk.add(ledger.TOTPLock)
	if got := try(); got != ledger.TOTPCodeLocked {
		t.Fatalf("in the second lock: %q", got)
	}
	clk.add(ledger.TOTPLock)
	// By now alice is locked out as a person too, which only adds an approval.
	if got := try(); got != "" && got != "waiting" {
		t.Fatalf("after the second lock: %q", got)
	}
	if n := count(c, "totp.locked"); n != 2 {
		t.Errorf("%d entries totp.locked", n)
	}
	c.Audit()
	rebuilt(t, c)
}

// TestTOTPOnceAmongMany: a hundred at once with one code; one gets in.
func TestTOTPOnceAmongMany(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: totpPolicy, Now: clk.now})
	alice := c.Enrol("alice")
	d := alice.Device("phone")
	if _, err := d.Enrol(d.Code(clk.now()), ""); err != nil {
		t.Fatal(err)
	}
	good := d.Code(clk.add(30 * time.Second))
	const n = 100
	var chs []*api.Challenge
	var sigs []string
	for range n {
		ch, err := alice.Client.Ask(context.Background(), alice.Want(catest.NewKey(t).PublicKey()))
		if err != nil {
			t.Fatal(err)
		}
		chs, sigs = append(chs, ch), append(sigs, alice.Sign(ch))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for i := range n {
		wg.Go(func() {
			_, err := alice.Client.SignRequest(context.Background(), chs[i].ID, api.Signed{SSHSIG: sigs[i], TOTP: good})
			mu.Lock()
			got[code(err)]++
			mu.Unlock()
		})
	}
	wg.Wait()
	// The counters race too: whose counter is behind is refused for that, and its code is used all the same.
	if got[""] > 1 || got[""]+got[api.CodeLate]+got[ledger.TOTPCodeReplay] != n || count(c, "totp.used") != 1 {
		t.Errorf("%v, %d entries totp.used", got, count(c, "totp.used"))
	}
	c.Audit()
	rebuilt(t, c)
}

func TestTOTPChanges(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: totpPolicy, Now: clk.now})
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	phone := alice.Device("phone")
	if _, err := phone.Enrol(phone.Code(clk.now()), ""); err != nil {
		t.Fatal(err)
	}
	// Another seed takes a code of the present one: a thief of the key has none.
	clk.add(30 * time.Second)
	tablet := alice.Device("tablet")
	if _, err := tablet.Enrol(tablet.Code(clk.now()), ""); code(err) != ledger.TOTPCodeCurrent {
		t.Errorf("in place of the phone without its code: %v", err)
	}
	if _, err := tablet.Enrol(tablet.Code(clk.now()), tablet.Code(clk.now())); code(err) != ledger.TOTPCodeWrong {
		t.Errorf("in place of the phone with the tablet's code: %v", err)
	}
	if _, err := tablet.Enrol(tablet.Code(clk.now()), phone.Code(clk.now())); err != nil {
		t.Errorf("with both: %v", err)
	}
	clk.add(30 * time.Second)
	if _, err := alice.RequestWith("root", "web01", phone.Code(clk.now())); code(err) != ledger.TOTPCodeWrong {
		t.Errorf("the phone's code after that: %v", err)
	}
	// A seed is enrolled once, and for whom it was made.
	clk.add(30 * time.Second)
	if _, err := tablet.Enrol(tablet.Code(clk.now()), tablet.Code(clk.now())); code(err) != api.CodeExpired {
		t.Errorf("the same seed again: %v", err)
	}
	stolen := &catest.Device{Person: bob, Name: "tablet", Seed: tablet.Seed}
	if _, err := stolen.Enrol(tablet.Code(clk.now()), ""); code(err) != api.CodeBadRequest {
		t.Errorf("alice's seed as bob's: %v", err)
	}
	renamed := &catest.Device{Person: alice, Name: "other", Seed: alice.Device("phone-2").Seed}
	clk.add(30 * time.Second)
	if _, err := renamed.Enrol(renamed.Code(clk.now()), tablet.Code(clk.now())); code(err) != api.CodeBadRequest {
		t.Errorf("a seed under another name: %v", err)
	}
	old := bob.Device("phone")
	clk.add(16 * time.Minute)
	if _, err := old.Enrol(old.Code(clk.now()), ""); code(err) != api.CodeExpired {
		t.Errorf("a seed that is 16 minutes old: %v", err)
	}
	// Removed with its code; then its codes are nothing.
	if _, err := tablet.Remove("000000"); code(err) != ledger.TOTPCodeWrong {
		t.Errorf("removed with a wrong code: %v", err)
	}
	clk.add(30 * time.Second)
	if _, err := tablet.Remove(tablet.Code(clk.now())); err != nil {
		t.Errorf("removed: %v", err)
	}
	clk.add(30 * time.Second)
	if _, err := alice.RequestWith("root", "web01", tablet.Code(clk.now())); code(err) != ledger.TOTPCodeNone {
		t.Errorf("a code after the removal: %v", err)
	}
	if _, err := tablet.Remove(tablet.Code(clk.now())); code(err) != ledger.TOTPCodeNone {
		t.Errorf("removed twice: %v", err)
	}
	// What the statement names is what is enrolled.
	x, y := alice.Device("x"), alice.Device("x")
	x2 := *x
	ch, err := alice.Client.TOTP(context.Background(), api.TOTPAsk{Person: "alice", Act: statement.TOTPEnrol, Device: "x", Seed: ledger.EntryHash(x2.Seed.Sealed).String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Client.SignTOTP(context.Background(), ch.ID, api.TOTPSigned{SSHSIG: alice.Sign(ch), TOTP: y.Code(clk.now()), Sealed: y.Seed.Sealed}); code(err) != api.CodeBadRequest {
		t.Errorf("another seed than was signed for: %v", err)
	}
	for _, e := range c.Raw() {
		for _, s := range []string{phone.Seed.Secret, tablet.Seed.Secret} {
			if strings.Contains(string(e), s) {
				t.Errorf("a seed stands in the ledger: %s", e)
			}
		}
	}
	c.Audit()
	rebuilt(t, c)
}

// TestTOTPIsNoTouch: with a right code, all that is refused without one is refused.
func TestTOTPIsNoTouch(t *testing.T) {
	clk := newClock()
	c := catest.New(t, catest.Config{Policy: totpPolicy, Now: clk.now})
	alice := c.Enrol("alice")
	d := alice.Device("phone")
	if _, err := d.Enrol(d.Code(clk.now()), ""); err != nil {
		t.Fatal(err)
	}
	good := d.Code(clk.add(30 * time.Second))
	ask := func() *api.Challenge {
		ch, err := alice.Client.Ask(context.Background(), alice.Want(catest.NewKey(t).PublicKey()))
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	ch := ask()
	if _, err := alice.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: alice.SignSilently(ch), TOTP: good}); code(err) != api.CodeNoTouch {
		t.Errorf("without a touch: %v", err)
	}
	ch = ask()
	if _, err := alice.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: alice.SignText(ch.Statement, ch.Namespace, false), TOTP: good}); code(err) != api.CodeNoPIN {
		t.Errorf("without a PIN: %v", err)
	}
	ch = ask()
	if _, err := alice.Client.SignRequest(context.Background(), ch.ID, api.Signed{TOTP: good}); code(err) != api.CodeRefused {
		t.Errorf("without a signature: %v", err)
	}
	if n := count(c, "totp.used"); n != 0 {
		t.Errorf("%d codes were spent on it", n)
	}
	if _, err := alice.RequestWith("root", "web01", good); err != nil {
		t.Errorf("with touch, PIN and the same code: %v", err)
	}
	c.Audit()
	rebuilt(t, c)
}
