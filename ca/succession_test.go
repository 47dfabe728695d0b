package ca_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/ca/catest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// away carries the standby keys off the CA, as init asks for.
func away(t *testing.T, c *catest.CA) string {
	t.Helper()
	to := t.TempDir()
	es, err := os.ReadDir(filepath.Join(c.Dir, "standby-keys"))
	catest.Must(t, err)
	for _, e := range es {
		b, err := os.ReadFile(filepath.Join(c.Dir, "standby-keys", e.Name()))
		catest.Must(t, err)
		catest.Must(t, os.WriteFile(filepath.Join(to, e.Name()), b, 0o600))
	}
	return to
}

// sign has a founder sign what the new CA shows, as their client does.
func signSuccession(t *testing.T, p *catest.Person, c *client.Client) (*api.Succession, error) {
	t.Helper()
	ch, err := c.AskSuccession(context.Background(), string(p.Name))
	if err != nil {
		return nil, err
	}
	return c.SignSuccession(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// succeedPolicy has three owners, so that two of them are not all.
func succeedPolicy(v *attesttest.Vendor) string {
	p := strings.Replace(vendorPolicy(v), `owners = ["alice"]`, `owners = ["alice", "bob", "carol"]`, 1)
	return strings.Replace(p, "[[enrolment.model]]", "[enrolment]\nkeys_required = 2\nrenew_days = 90\ngrace_days = 14\ncooling_off = \"1h\"\n[[enrolment.model]]", 1)
}

// A CA of which nothing is left but a backup of its ledger and the standby keys is followed by another, on two founders' word; whoever pinned the lost one
// proves that, and goes on.
func TestALostCAIsSucceeded(t *testing.T) {
	v := attesttest.New(t)
	c := catest.New(t, catest.Config{Policy: succeedPolicy(v), Vendor: v})
	j := c.Join("jump-a")
	people := []name.Person{"alice", "bob", "carol"}
	first, _ := c.Founded(people, []name.Person{"alice", "bob", "carol"})
	_, err := first["bob"].Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	if _, err := first["alice"].Request("root", "web01"); err != nil {
		t.Fatal(err)
	}
	standby, old := away(t, c), c.Pins
	b := backup(t, c)
	head := c.Checkpoint()
	late, err := client.New(client.Config{Pins: api.Pins{Site: old.Site, Checkpoint: head}})
	catest.Must(t, err)
	if _, err := late.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.Stop()
	c.Destroy()

	signed := c.Succeed(filepath.Join(b, "ca.db"), head, standby)
	pinned, err := client.New(client.Config{Pins: old})
	catest.Must(t, err)
	_, err = pinned.Site(context.Background())
	if !errors.Is(err, client.ErrSucceeded) {
		t.Fatalf("somebody who pinned the lost one: %v", err)
	}
	s, err := pinned.Succession(context.Background())
	catest.Must(t, err)
	if s.Entry != nil || s.Offer == nil || s.Offer.Needed != 2 || len(s.Offer.Carried) != 7 {
		t.Fatalf("%+v", s.Offer)
	}
	for _, k := range []struct{ had, active string }{{old.Site.ClientCA[1], s.Facts.Site.ClientCA[0]}, {old.Site.SessionCA[1], s.Facts.Site.SessionCA[0]},
		{old.Site.HostCA[1], s.Facts.Site.HostCA[0]}, {old.Site.TLS[1], s.Facts.Site.TLS[0]}} {
		if k.had != k.active {
			t.Errorf("active is %s, standby was %s", k.active, k.had)
		}
	}
	// A signature of nobody who founded, and one without a touch, are none.
	if _, err := pinned.AskSuccession(context.Background(), "mallory"); err == nil {
		t.Error("mallory may sign")
	}
	ch, err := pinned.AskSuccession(context.Background(), "alice")
	catest.Must(t, err)
	if _, err := pinned.SignSuccession(context.Background(), ch.ID, api.Signed{SSHSIG: first["alice"].SignSilently(ch)}); err == nil {
		t.Error("signed without a touch")
	}
	if ch, err = pinned.AskSuccession(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := pinned.SignSuccession(context.Background(), ch.ID, api.Signed{SSHSIG: first["bob"].Sign(ch)}); err == nil {
		t.Error("bob signed in alice's place")
	}
	after, err := signSuccession(t, first["alice"], pinned)
	catest.Must(t, err)
	if len(after.Facts.Signed) != 1 {
		t.Fatalf("%+v", after.Facts.Signed)
	}
	if after, err = signSuccession(t, first["alice"], pinned); err != nil || len(after.Facts.Signed) != 1 {
		t.Fatal("one founder counted twice", err)
	}
	_, err = signSuccession(t, first["bob"], pinned)
	catest.Must(t, err)
	signed()

	// Whoever pinned the lost ledger, at whatever head of it, takes the new one over.
	for _, c := range []*client.Client{pinned, late} {
		s, err = c.Succession(context.Background())
		catest.Must(t, err)
		if s.Entry == nil || !slices.Equal(client.Founders(s), []name.Person{"alice", "bob"}) {
			t.Fatalf("%+v", s)
		}
	}
	mangled(t, old, late.Newest(), s)
	c.Audit()
	// Everybody asks again, with the keys that they had; the jump has to speak for the new origin, and nothing else changes for it.
	for _, p := range people {
		first[p].Client = c.Client(nil)
	}
	g, err := first["alice"].Request("root", "web01")
	catest.Must(t, err)
	j.Client = c.Client(j.Key)
	j.Number, j.Previous = 0, [32]byte{}
	if _, err := j.Open(j.Question(g)); err != nil {
		t.Error(err)
	}
	if err := c.Rebuild(); err != nil {
		t.Error(err)
	}
	c.Audit()
	if st, err := c.Status(context.Background()); err != nil || !st.Founded || st.Keys != 6 || st.Recipients != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	// And it can be lost, too.
	standby, old, b, head = away(t, c), c.Pins, backup(t, c), c.Checkpoint()
	c.Stop()
	c.Destroy()
	signed = c.Succeed(filepath.Join(b, "ca.db"), head, standby)
	pinned, err = client.New(client.Config{Pins: old})
	catest.Must(t, err)
	for _, p := range []name.Person{"carol", "bob"} {
		if _, err := signSuccession(t, first[p], pinned); err != nil {
			t.Fatal(err)
		}
	}
	signed()
	if s, err = pinned.Succession(context.Background()); err != nil || s.Facts.Site.Epoch != 3 {
		t.Fatal(s, err)
	}
	first["alice"].Client = c.Client(nil)
	if _, err := first["alice"].Request("root", "web01"); err != nil {
		t.Error(err)
	}
	c.Audit()
}

// mangled changes each part of a proof that holds: none of what comes of it does.
func mangled(t *testing.T, pins api.Pins, last ledger.Checkpoint, s *api.Succession) {
	t.Helper()
	catest.Must(t, client.CheckSuccession(pins, last, s))
	for what, change := range map[string]func(*api.Succession){
		"one founder alone":        func(s *api.Succession) { s.Facts.Signed, s.Keys = s.Facts.Signed[:1], s.Keys[:1] },
		"one founder twice":        func(s *api.Succession) { s.Facts.Signed[1], s.Keys[1] = s.Facts.Signed[0], s.Keys[0] },
		"another site":             func(s *api.Succession) { s.Facts.Site.Addresses = []string{"192.0.2.9:1"} },
		"another CA key":           func(s *api.Succession) { s.Facts.Site.SessionCA = s.Facts.Site.SessionCA[1:] },
		"another TLS key":          func(s *api.Succession) { s.Facts.Site.TLS = s.Facts.Site.TLS[1:] },
		"another policy":           func(s *api.Succession) { s.Facts.Policy[0] ^= 1 },
		"other enrolments":         func(s *api.Succession) { s.Facts.Carried[0] ^= 1 },
		"other founders":           func(s *api.Succession) { s.Facts.Founders = []name.Person{"alice", "bob"} },
		"two epochs":               func(s *api.Succession) { s.Facts.Site.Epoch++ },
		"of another ledger":        func(s *api.Succession) { s.Facts.Old.Origin += "x" },
		"an older head":            func(s *api.Succession) { s.Facts.Old.Checkpoint = pins.Checkpoint },
		"no proof":                 func(s *api.Succession) { s.Proof = append(s.Proof, s.Facts.Policy) },
		"another enrolment":        func(s *api.Succession) { s.Keys[0], s.Keys[1] = s.Keys[1], s.Keys[0] },
		"a founding that is none":  func(s *api.Succession) { s.Founding = s.Keys[0] },
		"another first entry":      func(s *api.Succession) { e := *s.Entry; e.Entry = s.Founding.Entry; s.Entry = &e },
		"a new head of nobody":     func(s *api.Succession) { e := *s.Entry; e.Checkpoint = pins.Checkpoint; s.Entry = &e },
		"a signature over nothing": func(s *api.Succession) { s.Facts.Signed[0].Statement = "" },
	} {
		c := *s
		c.Facts.Signed, c.Keys, c.Proof = slices.Clone(s.Facts.Signed), slices.Clone(s.Keys), slices.Clone(s.Proof)
		change(&c)
		if err := client.CheckSuccession(pins, last, &c); !errors.Is(err, client.ErrSuccession) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
