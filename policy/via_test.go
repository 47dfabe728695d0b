package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"breakglass/internal/name"
	"breakglass/policy"
)

// newKey is a host key that nothing of the policy has.
const newKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEBBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5f"

// viaText is the base policy with a bastion, a proxy, and hosts behind them: by an entry of their own, by a pattern, and one that is out of it.
func viaText(t testing.TB) string {
	return baseText(t) + `
[vias.bastion1]
kind = "ssh"
address = ["10.0.8.9:22"]
login = "jump"
host_keys = ["` + freshKey + `"]
source = ["10.0.5.1/32", "fd00:5::1/128"]
[vias.proxy1]
kind = "http"
address = ["proxy.example.net:3128"]
source = ["10.0.6.1/32"]
[host_groups.far]
import = true
[hosts.far01]
address = ["10.0.9.1:22"]
host_keys = ["` + otherKey + `"]
groups = ["far"]
via = "proxy1"
[hosts.far02]
address = ["10.0.9.2:22"]
host_ca = ["` + siteCA + `"]
[hosts.far-not]
address = ["10.0.9.3:22"]
host_ca = ["` + siteCA + `"]
via = "direct"
[hosts."far*"]
address = ["{host}.far.example.net:22"]
host_ca = ["` + siteCA + `"]
via = "bastion1"
[[rule]]
name = "far"
why = "Far away."
who = ["alice"]
hosts = ["far*", "@far"]
logins = ["root"]
minutes = 10
`
}

func withVias(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Load("via.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestVia(t *testing.T) {
	p := withVias(t, viaText(t))
	for host, want := range map[name.Host]name.Via{"far01": "proxy1", "far02": "bastion1", "far77": "bastion1", "far-not": "", "web01": ""} {
		if h, ok := p.Host(host); !ok || h.Via != want {
			t.Errorf("%s is reached through %q (%v), want %q", host, h.Via, ok, want)
		}
	}
	v, ok := p.Via("bastion1")
	if !ok || v.Kind != policy.ViaSSH || v.Login != "jump" || len(v.HostKeys) != 1 || len(v.Source) != 2 || v.Source[1].String() != "fd00:5::1" {
		t.Errorf("bastion1 is %+v, %v", v, ok)
	}
	if _, ok := p.Via("bastion2"); ok {
		t.Error("a via that the policy has not is found")
	}
}

func TestViaIsCompared(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"another source", `["10.0.6.1/32"]`, `["10.0.6.2/32"]`, "via proxy1 changed: source"},
		{"another login", `login = "jump"`, `login = "other"`, "via bastion1 changed: login"},
		{"another key", freshKey, dbKey, "via bastion1 changed: host_keys"},
		{"a host by another", `via = "proxy1"`, `via = "bastion1"`, "host far01 changed: via"},
		{"a host directly", `via = "proxy1"`, `via = "direct"`, "host far01 changed: via"},
		{"a pattern", "ca = [\"" + siteCA + "\"]\nvia = \"bastion1\"", "ca = [\"" + siteCA + "\"]\nvia = \"proxy1\"", "host far02 changed: via\npattern far* changed: via"},
	} {
		text := viaText(t)
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: nothing to change", c.name)
		}
		var got []string
		for _, x := range policy.Compare(withVias(t, text), withVias(t, strings.Replace(text, c.old, c.new, 1))) {
			got = append(got, x.String())
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestViaIsNotImported: which bastion is passed and by which login, owners say; and an operator makes no host of the bastion itself.
func TestViaIsNotImported(t *testing.T) {
	p := withVias(t, viaText(t))
	entry := "[hosts.new01]\naddress = [\"ADDRESS\"]\ngroups = [\"far\"]\nhost_keys = [\"" + newKey + "\"]\n"
	for _, c := range []struct {
		name, text string
		want       policy.ImportCode
	}{
		{"a via", strings.Replace(entry, "ADDRESS", "10.0.9.9:22", 1) + "via = \"proxy1\"\n", policy.ImportVia},
		{"no via, said", strings.Replace(entry, "ADDRESS", "10.0.9.9:22", 1) + "via = \"direct\"\n", policy.ImportVia},
		{"the bastion's address", strings.Replace(entry, "ADDRESS", "10.0.8.9:2222", 1), policy.ImportSameAddress},
		{"the bastion's key", strings.Replace(strings.Replace(entry, "ADDRESS", "10.0.9.9:22", 1), newKey, freshKey, 1), policy.ImportSameKey},
	} {
		_, _, err := policy.Import(p, c.text)
		var refused *policy.ImportError
		if !errors.As(err, &refused) || !slices.ContainsFunc(refused.Refused, func(r policy.Refusal) bool { return r.Code == c.want }) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if _, _, err := policy.Import(p, strings.Replace(entry, "ADDRESS", "10.0.9.9:22", 1)); err != nil {
		t.Errorf("the same host without: %v", err)
	}
}

func TestViaIsChecked(t *testing.T) {
	has := func(text, message string) bool {
		return slices.ContainsFunc(policy.Check(withVias(t, text)), func(f policy.Finding) bool { return f.Message == message })
	}
	const need = `host "far01" is unreachable while DNS is down: via "proxy1" is known by name only`
	if text := viaText(t); !has(text, need) || has(strings.Replace(text, "proxy.example.net:3128", "10.0.8.10:3128", 1), need) {
		t.Error("a via's need of DNS is not told, or told where there is none")
	}
	const unused = `via "proxy1" is used by no host`
	if text := viaText(t); has(text, unused) || !has(strings.Replace(text, `via = "proxy1"`, "", 1), unused) {
		t.Error("an unused via is not told, or one that is used")
	}
}
