package policy_test

import (
	"slices"
	"strings"
	"testing"

	"breakglass/internal/name"
	"breakglass/policy"
)

// TestWithout: what a policy would lack if somebody were gone.
func TestWithout(t *testing.T) {
	const key = `host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5AobeHMSqrBgw1ztgTrX9OZTRDv0fzJPBNrmXHRTPm"]`
	text := `profile = "demo"
[site]
name = "test"
owners = ["ann", "bea"]
operators = ["olga"]
readers = ["rita", "ann"]
[people.ann]
[people.bea]
[people.olga]
[people.rita]
[people.dan]
[people.eve]
[networks]
here = ["127.0.0.0/8"]
[always]
anonymous = "allow"
trusted = ["here"]
[hosts.web01]
address = ["127.0.0.1:22"]
` + key + `
[[rule]]
name = "alone"
why = "Dan alone may."
who = ["dan"]
hosts = ["web01"]
logins = ["deploy"]
minutes = 10
[[rule]]
name = "pair"
why = "Two say yes."
who = ["dan", "eve"]
hosts = ["web01"]
logins = ["root"]
minutes = 10
approvals = 2
approvers = ["ann", "bea"]
[[rule]]
name = "one"
why = "Eve says yes."
who = ["dan"]
hosts = ["web01"]
logins = ["app"]
minutes = 10
approvals = 1
approvers = ["eve"]
`
	p, err := policy.Load("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string][]string{
		"dan":    {"rule alone: nobody is left whom it lets in", "rule one: nobody is left whom it lets in"},
		"eve":    {"rule one: nobody is left who can approve"},
		"ann":    {"rule pair: it takes 2 approvals, and only bea can give one", "[site]: only bea is left as owner"},
		"olga":   {"[site]: no operator is left"},
		"rita":   {},
		"nobody": {},
	} {
		got := p.Without(name.Person(who))
		if len(got) != len(want) || !slices.EqualFunc(got, want, func(g, w string) bool { return strings.HasPrefix(g, w) }) {
			t.Errorf("without %s: %q, want %q", who, got, want)
		}
	}
}
