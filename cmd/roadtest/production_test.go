package roadtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"breakglass/internal/attest/attesttest"
	"breakglass/internal/road"
)

// productionPolicy is a site with four people, where one login is open at once and another takes two approvals.
const productionPolicy = `profile = "production"

[site]
name      = "life"
owners    = ["alice", "bob"]
operators = ["carol", "dan"]
readers   = ["bob", "dan"]

[people.alice]
groups = ["oncall"]
[people.bob]
groups = ["leads"]
[people.carol]
groups = ["leads", "oncall"]
[people.dan]
groups = ["leads"]
[people.erin]
groups = ["oncall"]

[networks]
here = ["127.0.0.0/8"]

[always]
trusted   = ["here"]
approvers = ["@leads"]
override  = "after 1s"

[enrolment]
keys_required = 2
cooling_off   = "0s"

{{.More.Model}}

[jumps.{{.Jump}}]
address = ["{{.JumpAddress}}"]
source  = ["127.0.0.1/32"]

[hosts.{{.Host}}]
address   = ["{{.HostAddress}}"]
host_keys = ["{{.HostKey}}"]
groups    = ["web"]

[[rule]]
name    = "oncall-web"
why     = "On-call may enter web servers at once."
who     = ["alice", "erin"]
hosts   = ["@web"]
logins  = ["{{.Login}}"]
minutes = 10

[[rule]]
name      = "carol-asks"
why       = "Carol asks two of the others."
who       = ["carol"]
hosts     = ["@web"]
logins    = ["{{.Login}}"]
minutes   = 10
approvals = 2
approvers = ["@leads", "alice"]
override  = "after 1s"
veto      = true
`

// life is a production site and its people.
type life struct {
	*testing.T
	*road.Road
	people map[string]*road.Person
}

// do runs a command of a person's that has to succeed.
func (l *life) do(who string, args ...string) string {
	l.Helper()
	out, err := l.people[who].Run(l.Context(), args[0], args[1:]...)
	if err != nil {
		l.Fatalf("%s: %v", who, err)
	}
	return out
}

// refused runs one that has to be refused, with that text among what the person reads.
func (l *life) refused(who, text string, args ...string) {
	l.Helper()
	out, err := l.people[who].Command(l.Context(), args[0], args[1:]...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), text) {
		l.Fatalf("%s: %s: want a refusal with %q, got %v\n%s", who, strings.Join(args, " "), text, err, out)
	}
}

// key puts a person's key into the machine and enrols it with a token.
func (l *life) enrol(who, key, token string) {
	l.Helper()
	p := l.people[who]
	if p == nil {
		var err error
		if p, err = l.Plug(who); err != nil {
			l.Fatal(err)
		}
		l.people[who] = p
	}
	if err := p.Use(key); err != nil {
		l.Fatal(err)
	}
	l.do(who, "breakglass", "enroll", strings.TrimSpace(token), "--key-name", key)
}

// local is a command of the CA's machine.
func (l *life) local(args ...string) string {
	l.Helper()
	out, err := l.Road.Run(l.Context(), "breakglass-ca", append(args, "--dir", filepath.Join(l.Dir, "ca"))...)
	if err != nil {
		l.Fatal(err)
	}
	return out
}

// production brings a production site up: keys sealed, and the listed vendor's hardware alone.
func production(t *testing.T) *life {
	t.Helper()
	v := attesttest.New(t)
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, intermediate := write("root.pem", v.RootPEM()), write("intermediate.pem", v.IntermediatePEM())
	cfg := road.Config{Dir: t.TempDir(), Bin: bin, Policy: productionPolicy, Make: v.Key(road.PIN), More: map[string]string{"Model": v.PolicyText()},
		Init: []string{"--attestation-root", root, "--attestation-intermediate", intermediate}, Passphrase: "correct horse battery staple in a vault"}
	if testing.Verbose() {
		cfg.Log = os.Stderr
	}
	r, err := road.Start(t.Context(), cfg)
	t.Cleanup(func() {
		r.Stop()
		if t.Failed() {
			for _, name := range []string{"ca", "jump", "sshd"} {
				text, _ := os.ReadFile(filepath.Join(r.Dir, name+".log"))
				t.Logf("%s.log ends:\n%s", name, tail(string(text), 25))
			}
		}
		if err := road.Remove(r.Dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &life{t, r, map[string]*road.Person{}}
}

// requestID is what `breakglass request` calls what it asked for.
var requestID = regexp.MustCompile(`\b[a-z0-9]{3}-[a-z0-9]{3}\b`)

// waiting asks and does not wait; it gives the request's id.
func (l *life) waiting(who string, more ...string) string {
	l.Helper()
	args := append([]string{"request", "--no-wait", "--reason", reason}, more...)
	out, _ := l.people[who].Command(l.Context(), "breakglass", append(args, l.people[who].Target())...).CombinedOutput()
	id := requestID.FindString(string(out))
	if id == "" {
		l.Fatalf("%s asked, and no request waits:\n%s", who, out)
	}
	return id
}

// TestALifeInProduction reads like the first months of a site: its keys are founded, somebody breaks the glass alone and somebody with
// approvals, one is denied, one overrides, keys are renewed, lost and come again, operators order by touch, and at the end the whole ledger
// verifies.
func TestALifeInProduction(t *testing.T) {
	l := production(t)
	ctx := t.Context()

	// Before the founding local root invites. Nothing else opens.
	for _, who := range []string{"alice", "bob", "carol", "dan"} {
		for _, key := range []string{"desk", "safe"} {
			l.enrol(who, key, l.local("invite", who))
		}
	}
	l.refused("alice", "not founded", "breakglass", "request", "--reason", reason, l.people["alice"].Target())
	l.refused("carol", "owner", "breakglass", "found", "--yes", "--policy", filepath.Join(l.Dir, "policy.toml"))
	l.do("alice", "breakglass", "found", "--yes", "--policy", filepath.Join(l.Dir, "policy.toml"))
	l.refused("alice", "not founded", "breakglass", "request", "--reason", reason, l.people["alice"].Target())
	l.do("bob", "breakglass", "found", "--yes", "--policy", filepath.Join(l.Dir, "policy.toml"))
	for _, who := range []string{"bob", "dan"} {
		l.do(who, "breakglass", "reviewer", "init")
	}

	// On-call enters at once.
	if out := l.do("alice", "breakglass", "ssh", "--reason", reason, l.people["alice"].Target(), "--", "echo in"); strings.TrimSpace(out) != "in" {
		t.Fatalf("alice's shell says %q", out)
	}

	// Carol asks two others; not herself, not one twice.
	id := l.waiting("carol", "--minutes", "2")
	l.refused("carol", "nobody approves their own", "breakglass", "approve", id)
	l.do("bob", "breakglass", "approve", id)
	l.refused("bob", "already", "breakglass", "approve", id)
	l.do("alice", "breakglass", "approve", id)
	if out := l.do("carol", "breakglass", "ssh", l.people["carol"].Target(), "--", "echo approved"); strings.TrimSpace(out) != "approved" {
		t.Fatalf("carol's shell says %q", out)
	}
	out, _ := l.people["carol"].Command(ctx, "breakglass", "extend", id, "--no-wait", "--reason", reason+" and goes on").CombinedOutput()
	more := ""
	for _, x := range requestID.FindAllString(string(out), -1) {
		if x != id {
			more = x
		}
	}
	l.do("dan", "breakglass", "approve", more)
	l.do("bob", "breakglass", "approve", more)
	if out := l.do("bob", "breakglass", "verify", id); !strings.HasPrefix(out, "VERIFIED") || !strings.Contains(out, "alice") {
		t.Fatalf("verify says\n%s", out)
	}
	l.do("carol", "breakglass", "end", id)

	// A no ends it, for the rule says so; nobody answering is overridden.
	id = l.waiting("carol")
	l.do("dan", "breakglass", "deny", id, "--comment", "use the standby")
	l.refused("carol", "it is denied", "breakglass", "request", "--override", id)
	l.refused("carol", "dan said no", "breakglass", "request", "--no-wait", "--reason", reason, l.people["carol"].Target()) // what became of it
	id = l.waiting("carol")
	time.Sleep(1100 * time.Millisecond)
	l.do("carol", "breakglass", "request", "--override", id)
	if out := l.do("carol", "breakglass", "ssh", l.people["carol"].Target(), "--", "echo alone"); strings.TrimSpace(out) != "alone" {
		t.Fatalf("carol's shell says %q", out)
	}
	if out := l.do("bob", "breakglass", "verify", id); !strings.Contains(out, "OVERRIDE") {
		t.Fatalf("verify hides the override\n%s", out)
	}

	// An operator's touch invites a new colleague; her key counts once two others have vouched for it.
	l.enrol("erin", "desk", l.do("carol", "breakglass-ca", "invite", "erin"))
	l.refused("erin", "does not count yet", "breakglass", "request", "--reason", reason, l.people["erin"].Target())
	heard := l.fingerprint("erin", "desk")
	l.refused("carol", "", "breakglass", "vouch", "erin", "desk", "--heard", "AAAAAAAA")
	l.do("carol", "breakglass", "vouch", "erin", "desk", "--heard", heard)
	l.refused("erin", "does not count yet", "breakglass", "request", "--reason", reason, l.people["erin"].Target())
	l.do("dan", "breakglass", "vouch", "erin", "desk", "--heard", heard)
	// She has one key, and the policy wants two: an approval more.
	id = l.waiting("erin")
	l.do("dan", "breakglass", "approve", id)
	l.do("erin", "breakglass", "ssh", l.people["erin"].Target(), "--", "true")
	l.enrol("erin", "safe", l.do("carol", "breakglass-ca", "invite", "erin"))
	l.use("erin", "desk")
	l.do("erin", "breakglass", "vouch", "erin", "safe", "--heard", l.fingerprint("erin", "safe"))

	// Renewal takes every key; a lost one is told with the other, and is gone at once.
	l.use("alice", "desk")
	l.do("alice", "breakglass", "renew", "--key", "desk")
	l.use("alice", "safe")
	l.do("alice", "breakglass", "renew", "--key", "safe")
	l.do("alice", "breakglass", "lost", "desk", "--yes", "--reason", "left in a taxi")
	l.use("alice", "desk")
	l.do("alice", "breakglass", "agent", "--stop")
	if out, err := l.people["alice"].Command(ctx, "breakglass", "request", "--reason", reason, l.people["alice"].Target()).CombinedOutput(); err == nil {
		t.Fatalf("a lost key opened\n%s", out)
	}
	l.use("alice", "safe")
	id = l.waiting("alice")
	l.do("dan", "breakglass", "approve", id)
	l.do("alice", "breakglass", "ssh", l.people["alice"].Target(), "--", "true")

	// Who leaves is gone, and operators are told what they leave behind.
	if out, err := l.people["dan"].Command(ctx, "breakglass-ca", "revoke", "person", "erin", "--reason", "left the company").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := l.people["erin"].Command(ctx, "breakglass", "request", "--reason", reason, l.people["erin"].Target()).CombinedOutput(); err == nil {
		t.Fatalf("somebody who left opened\n%s", out)
	}
	l.refused("alice", "operator", "breakglass-ca", "invite", "alice")

	// Held against what alice's machine trusts, not against what the CA says of itself.
	pins := filepath.Join(l.Dir, "pins.json")
	if err := os.WriteFile(pins, []byte(l.do("alice", "breakglass", "pins", "--json")), 0o600); err != nil {
		t.Fatal(err)
	}
	// It makes every decision of this story again, too.
	if out := l.local("ledger", "verify", "--trust", pins); !strings.Contains(out, "VERIFIED") || !regexp.MustCompile(`replayed +[1-9]\d+ decisions with the same answer`).MatchString(out) {
		t.Fatalf("the ledger: %s", out)
	}
	l.End("ca", true)
	if err := l.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	if out := l.do("alice", "breakglass", "ssh", l.people["alice"].Target(), "--", "echo still"); strings.TrimSpace(out) != "still" {
		t.Fatalf("after a restart alice's shell says %q", out)
	}
}

// use puts another key of the person's into the machine.
func (l *life) use(who, key string) {
	l.Helper()
	if err := l.people[who].Use(key); err != nil {
		l.Fatal(err)
	}
}

// fingerprint is the end of a key's fingerprint, as its holder reads it aloud.
func (l *life) fingerprint(who, key string) string {
	l.Helper()
	var list []struct{ Name, Fingerprint string }
	if err := json.Unmarshal([]byte(l.do(who, "breakglass", "keys", "--json")), &list); err != nil {
		l.Fatal(err)
	}
	for _, k := range list {
		if k.Name == key {
			return k.Fingerprint[len(k.Fingerprint)-8:]
		}
	}
	l.Fatalf("%s has no key %s", who, key)
	return ""
}
