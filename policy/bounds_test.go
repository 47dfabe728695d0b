package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"breakglass/policy"
)

// TestMonsters: no text of the length that is taken keeps whoever reads it busy for minutes, or takes gigabytes. Most of these did.
func TestMonsters(t *testing.T) {
	const size = policy.MaxFileBytes - 1000
	lines := func(format string, upTo int) string {
		var b strings.Builder
		for i := 0; b.Len() < upTo; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	const head = "profile = \"production\"\nsite.name = \"x\"\n"
	for _, c := range []struct{ name, text, want string }{
		{"names that nobody has", head + "site.owners = [" + lines(`"qerson%d",`, 60_000) + "]\n" + lines("[people.person%d]\n", 400_000), `unknown person "qerson0"`},
		{"unknown keys", lines("k%d = 1\n", size), `unknown key "k0"`},
		{"a key of millions of parts", strings.Repeat("a.", size/2) + "a = 1", `unknown key "a"`},
		{"a known key of millions of parts", "people." + strings.Repeat("a.", size/2-10) + "a = 1", "a key of more than 8 parts"},
		{"a table of millions of parts", "[people." + strings.Repeat("a.", size/2-10) + "a]", "a key of more than 8 parts"},
		{"a list of millions", "[always]\nasns = [" + strings.Repeat("1,", size/2-20) + "1]", "more than 1000000 keys and list elements"},
		{"a list of lists", "x = [" + strings.Repeat("[],", size/3-20) + "[]]", "unknown key \"x\""},
		{"hundreds of thousands of rules", strings.Repeat("[[rule]]\n", size/9), "more than 20000 [[rule]]"},
		{"more tests than keys fit", strings.Repeat("[[test]]\nminutes=1\n", size/19), "more than 20000 [[test]]"},
		{"hundreds of thousands of patterns", lines("[hosts.\"h%d*\"]\n", size), "more than 2000 patterns"},
		{"a large group in many lists", lines("[people.p%d]\ngroups=[\"g\"]\n", 500_000) + "[[rule]]\nwho = [" + strings.Repeat(`"@g",`, 2000) + "]\n", "the policy's lists stand for more than 5000000 people and networks"},
		{"a large network in a list a thousand times", "networks.n = [" + strings.Repeat(`"198.51.100.1/32",`, 20_000) + "]\n[always]\nnetworks = [" + strings.Repeat(`"n",`, 1000) + `"n"]`,
			"the policy's lists stand for more than 5000000 people and networks"},
		{"many patterns in a rule", "[hosts.\"*\"]\n[[rule]]\nhosts = [" + lines(`"h%d*",`, 100_000) + "]\n", "the rules have more than 5000 patterns of hosts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && len(c.text) > 1<<20 {
				t.Skip("takes a while")
			}
			start := time.Now()
			_, err := policy.Parse("policy.toml", []byte(c.text))
			if took := time.Since(start); took > 5*time.Minute { // a second or three on a machine with nothing else to do; before there were bounds, hours
				t.Errorf("it took %v", took)
			}
			var le *policy.LoadError
			if !errors.As(err, &le) {
				t.Fatal("it loads")
			}
			if len(le.Faults) > 100 {
				t.Errorf("%d faults are told", len(le.Faults))
			}
			for _, f := range le.Faults {
				if strings.Contains(f.Message, c.want) {
					return
				}
			}
			t.Errorf("nothing says %q, but: %s", c.want, le.Faults[0].Message)
		})
	}
}
