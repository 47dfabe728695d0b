package policy

import (
	"strings"
	"testing"
)

func TestSigners(t *testing.T) {
	for _, c := range []struct {
		what, profile, owners, line string
		want                        int
		fault                       string
	}{
		{"nothing said, two owners", "production", `"alice", "bob"`, "", 2, ""},
		{"nothing said, three owners", "production", `"alice", "bob", "carol"`, "", 2, ""},
		{"nothing said, one owner", "production", `"alice"`, "", 1, ""},
		{"nothing said, a demo", "demo", `"alice", "bob"`, "", 1, ""},
		{"a group of owners", "production", `"@all"`, "signers = 3", 3, ""},
		{"one, written", "production", `"alice", "bob"`, "signers = 1", 1, ""},
		{"two in a demo", "demo", `"alice", "bob"`, "signers = 2", 2, ""},
		{"more than there are", "production", `"alice", "bob"`, "signers = 3", 0, "nobody could ever change the policy"},
		{"none", "production", `"alice", "bob"`, "signers = 0", 0, "can't sign anything"},
		{"fewer than none", "production", `"alice", "bob"`, "signers = -1", 0, "can't sign anything"},
	} {
		src := `profile = "` + c.profile + `"
[site]
name = "example"
owners = [` + c.owners + `]
` + c.line + `
operators = ["alice"]
readers = ["alice"]
[people.alice]
groups = ["all"]
[people.bob]
groups = ["all"]
[people.carol]
groups = ["all"]
[hosts.web01]
address = ["192.0.2.1:22"]
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5AobeHMSqrBgw1ztgTrX9OZTRDv0fzJPBNrmXHRTPm"]
[[rule]]
name = "all"
why = "Everybody may."
who = ["@all"]
hosts = ["web01"]
logins = ["root"]
minutes = 10
`
		p, err := Parse("policy.toml", []byte(src))
		switch {
		case c.fault == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.fault == "" && p.Site.Signers != c.want:
			t.Errorf("%s: %d, want %d", c.what, p.Site.Signers, c.want)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
