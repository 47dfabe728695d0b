package policy

import (
	"strings"
	"testing"
)

const wordsPolicy = `profile = "production"
[site]
name = "example"
owners = ["alice", "bob"]
operators = ["alice"]
readers = ["alice"]
[people.alice]
groups = ["ops"]
[people.bob]
[people.carol]
[hosts.web01]
address = ["192.0.2.1:22"]
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5AobeHMSqrBgw1ztgTrX9OZTRDv0fzJPBNrmXHRTPm"]
[[rule]]
name = "ops"
why = "Operators may."
who = ["@ops"]
hosts = ["web01"]
logins = ["root"]
minutes = 10
`

// TestWords: what an owner reads before they sign.
func TestWords(t *testing.T) {
	for _, c := range []struct {
		what, old, new string
		first          string
		says           []string
	}{
		{"a comment", "minutes = 10", "minutes = 10 # briefly", "Nothing but", nil},
		{"another owner", `owners = ["alice", "bob"]`, `owners = ["alice", "carol"]`, "WHO SIGNS THE NEXT POLICY CHANGES: owners come: carol; owners go: bob", nil},
		{"one signature", `operators =`, "signers = 1\noperators =", "WHO SIGNS THE NEXT POLICY CHANGES: signers 1, now 2", nil},
		{"more minutes", "minutes = 10", "minutes = 20", "1 rule changed", []string{"rule ops changed: minutes"}},
		{"a person in a group", "[people.bob]", "[people.bob]\ngroups = [\"ops\"]", "", []string{"bob gains rule ops", "person bob changed: groups"}},
		{"another in a rule", `who = ["@ops"]`, `who = ["carol"]`, "", []string{"carol gains rule ops", "alice loses rule ops"}},
		{"a rule's name", `name = "ops"`, `name = "operators"`, "", []string{"alice gains rule operators loses rule ops", "rule operators added", "rule ops removed"}},
	} {
		old, err := Parse("old", []byte(wordsPolicy))
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse("new", []byte(strings.Replace(wordsPolicy, c.old, c.new, 1)))
		if err != nil {
			t.Fatal(c.what, err)
		}
		got := Words(old, p)
		if !strings.HasPrefix(got[0], c.first) {
			t.Errorf("%s: begins %q", c.what, got[0])
		}
		for _, s := range c.says {
			if !strings.Contains(strings.Join(got, "\n"), s) {
				t.Errorf("%s: says nothing of %q:\n%s", c.what, s, strings.Join(got, "\n"))
			}
		}
	}
}
