package policy_test

import (
	"errors"
	"strings"
	"testing"

	"breakglass/policy"
)

// TestBudget: what a rule says, else what [always] says, else the default; and what is no amount is a fault with its place.
func TestBudget(t *testing.T) {
	text := baseText(t)
	for _, c := range []struct {
		always, rule string
		want         int64
		fault        string
	}{
		{"", "", policy.DefaultBudget, ""},
		{`budget = "2 GiB"`, "", 2 << 30, ""},
		{`budget = "2 GiB"`, `budget = "1MiB"`, 1 << 20, ""},
		{`budget = "2 GiB"`, `budget = "3 TiB"`, 3 << 40, ""},
		{"", `budget = "1 KiB"`, 0, `budget = "1 KiB"`},
		{"", `budget = "2 GB"`, 0, `write it like "512 MiB" or "4 GiB", from 1 MiB to 1024 TiB`},
		{`budget = "lots"`, "", 0, `budget = "lots"`},
		{`budget = ""`, "", 0, `budget = ""`},
	} {
		file := strings.Replace(text, "[always]\n", "[always]\n"+c.always+"\n", 1)
		file = strings.Replace(file, "[[rule]]\n", "[[rule]]\n"+c.rule+"\n", 1)
		p, err := policy.Load("policy.toml", []byte(file))
		if c.fault != "" {
			var le *policy.LoadError
			if !errors.As(err, &le) || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s, %s: %v", c.always, c.rule, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		a := usual()
		if d := policy.Decide(p, a.req, a.facts); d.Budget != c.want || d.Outcome != policy.Allow {
			t.Errorf("%s, %s: %v with %d, want %d", c.always, c.rule, d.Outcome, d.Budget, c.want)
		}
		if s := policy.Explain(p, a.req, a.facts); !strings.Contains(s, " a session\n") {
			t.Errorf("not explained: %s", s)
		}
	}
}
