package replay_test

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/review/replay"
)

const text = `profile = "demo"
[site]
name = "test"
owners = ["alice"]
operators = ["alice"]
readers = ["bob"]
[people.alice]
[people.bob]
[always]
anonymous = "allow"
[hosts.web01]
address = ["10.0.1.1:22"]
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt/hc1p+UaYXzM+kRk6MxNFL6+TNyilBfU67tbDOO"]
groups = ["web"]
[host_groups.web]
import = true
[[rule]]
name = "web"
why = "On-call."
who = ["alice"]
hosts = ["@web"]
logins = ["root"]
minutes = 30
`

const moreHosts = `[hosts.web02]
address = ["10.0.1.2:22"]
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt/hc1p+UaYXzM+kRk6MxNFL6+TNyilBfU67tbDOO"]
groups = ["web"]
`

func hashOf(s string) statement.Hash { return sha256.Sum256([]byte(s)) }

// allowed is the entry of a grant on a host, as a CA writes it under a policy.
func allowed(t *testing.T, p string, host string) *ledger.Entry {
	t.Helper()
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	q := &policy.Inquiry{Request: policy.Request{Kind: policy.KindNew, Person: "alice", Host: "web01", Login: "root", Reason: "the disk of the mail queue is full"},
		Facts: policy.Facts{Now: now, Touch: policy.Yes, UV: policy.Yes, Key: policy.KeyLive, Sources: []policy.Source{{Addr: netip.MustParseAddr("203.0.113.9"), Country: "DE", CountryBuilt: now}},
			Live: policy.Live{Known: true}}}
	q.Request.Host = "web01"
	if host != "" {
		q.Request.Host = "web02"
	}
	asked, err := q.Text()
	if err != nil {
		t.Fatal(err)
	}
	return &ledger.Entry{Time: ledger.At(now), Subject: ledger.Subject{Request: "k7f-2mq", Person: "alice", Host: q.Request.Host, Login: "root"},
		Facts: &ledger.GrantAllowed{Rule: "web", Why: "On-call.", Minutes: 30, IdleSeconds: 900, Used: ledger.Used{Policy: hashOf(p), Key: "live", Touch: ledger.Touch{Flags: 5},
			Addresses: []ledger.UsedAddress{{Address: "203.0.113.9", Country: "DE", Anonymous: "unknown"}}, Asked: asked}}}
}

// TestPass: each row is a ledger, and what making its decisions again finds.
func TestPass(t *testing.T) {
	imported, err := policytext.Import(text, moreHosts)
	if err != nil {
		t.Fatal(err)
	}
	whole := &ledger.PolicyAdopted{SHA256: hashOf(text), Text: text}
	half := len(text) / 2
	entry := func(f ledger.Facts) *ledger.Entry { return &ledger.Entry{Facts: f} }
	with := func(e *ledger.Entry, change func(*ledger.GrantAllowed)) *ledger.Entry {
		f := *e.Facts.(*ledger.GrantAllowed)
		change(&f)
		c := *e
		c.Facts = &f
		return &c
	}
	good := allowed(t, text, "")
	for _, c := range []struct {
		when    string
		entries []*ledger.Entry
		same    int
		skipped int
		finds   string // "": nothing
	}{
		{"a grant under the policy in force", []*ledger.Entry{entry(whole), good}, 1, 0, ""},
		{"a policy in pieces", []*ledger.Entry{entry(&ledger.PolicyText{SHA256: hashOf(text[:half]), Text: text[:half]}), entry(&ledger.PolicyText{SHA256: hashOf(text[half:]), Text: text[half:]}),
			entry(&ledger.PolicyAdopted{SHA256: hashOf(text), Pieces: []statement.Hash{hashOf(text[:half]), hashOf(text[half:])}}), good}, 1, 0, ""},
		{"a host that an operator imported", []*ledger.Entry{entry(whole), entry(&ledger.PolicyImported{SHA256: hashOf(imported), Previous: hashOf(text), Hosts: moreHosts}), allowed(t, imported, "web02")}, 1, 0, ""},
		{"a host that nobody imported yet", []*ledger.Entry{entry(whole), allowed(t, text, "web02")}, 0, 0, "answer: the entry says allow, deciding again says deny"},
		{"a piece is missing", []*ledger.Entry{entry(&ledger.PolicyAdopted{SHA256: hashOf(text), Pieces: []statement.Hash{hashOf(text)}}), good}, 0, 0, "no such policy in the ledger"},
		{"the ledger lacks the policy", []*ledger.Entry{good}, 0, 0, "no such policy in the ledger"},
		{"another text stands for the policy", []*ledger.Entry{entry(&ledger.PolicyAdopted{SHA256: hashOf(text), Text: text + "\n"}), good}, 0, 0, "has SHA-256"},
		{"a policy that this program can't read", []*ledger.Entry{entry(&ledger.PolicyAdopted{SHA256: hashOf("moon = 1\n"), Text: "moon = 1\n"}),
			with(good, func(f *ledger.GrantAllowed) { f.Used.Policy = hashOf("moon = 1\n") })}, 0, 1, ""},
		{"an entry from before", []*ledger.Entry{entry(whole), with(good, func(f *ledger.GrantAllowed) { f.Used.Asked = nil })}, 0, 1, ""},
		{"more minutes than the rule gives", []*ledger.Entry{entry(whole), with(good, func(f *ledger.GrantAllowed) { f.Minutes = 60 })}, 0, 0, "minutes: the entry says 60, deciding again says 30"},
		{"another rule", []*ledger.Entry{entry(whole), with(good, func(f *ledger.GrantAllowed) { f.Rule = "db" })}, 0, 0, "rule: the entry says db"},
		{"a forward that was not asked for", []*ledger.Entry{entry(whole), with(good, func(f *ledger.GrantAllowed) { f.Forwards = []string{"local db01:5432"} })}, 0, 0, "forwards: the entry says local db01:5432"},
		{"another country than was asked with", []*ledger.Entry{entry(whole), with(good, func(f *ledger.GrantAllowed) {
			f.Used.Addresses = []ledger.UsedAddress{{Address: "203.0.113.9", Country: "FR", Anonymous: "unknown"}}
		})}, 0, 0, "addresses: the entry says"},
		{"an approver who was not asked with", []*ledger.Entry{entry(whole), with(good, func(f *ledger.GrantAllowed) { f.Used.Approved = append(f.Used.Approved, "bob") })}, 0, 0, "the entry counts bob"},
		{"an inquiry that can't be read", []*ledger.Entry{entry(whole), with(good, func(f *ledger.GrantAllowed) { f.Used.Asked = []byte(`{"moon":1}`) })}, 0, 0, "malformed inquiry"},
	} {
		var p replay.Pass
		for i, e := range c.entries {
			p.Add(int64(i), e)
		}
		found := strings.Join(p.Findings, "\n")
		if p.Same != c.same || p.Skipped != c.skipped || (c.finds == "") != (found == "") || !strings.Contains(found, c.finds) {
			t.Errorf("%s: %d the same, %d skipped, found %q", c.when, p.Same, p.Skipped, found)
		}
	}
}

func TestImportsInACircleEnd(t *testing.T) {
	var s replay.Policies
	a, b := hashOf("a"), hashOf("b")
	s.Add(&ledger.PolicyImported{SHA256: a, Previous: b})
	s.Add(&ledger.PolicyImported{SHA256: b, Previous: a})
	if _, err := s.Policy(a); !errors.Is(err, replay.ErrNoPolicy) {
		t.Error(err)
	}
}
