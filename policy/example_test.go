package policy_test

import (
	"os"
	"testing"

	"breakglass/policy"
)

// TestExamplePolicy loads the policy that people start from: it passes its own tests and Check has nothing to say
// about it but what its comments say.
func TestExamplePolicy(t *testing.T) {
	src, err := os.ReadFile("../contrib/policy/example.toml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load("example.toml", src)
	if err != nil {
		t.Fatal(err)
	}
	if p.Profile != policy.Production {
		t.Errorf("profile %q", p.Profile)
	}
	if n := len(policy.Test(p)); n < 10 {
		t.Errorf("only %d tests", n)
	}
	for _, f := range policy.Check(p) {
		t.Errorf("line %d: %s: %s (%s)", f.Line, f.Severity, f.Message, f.Next)
	}
}
