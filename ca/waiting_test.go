package ca_test

import (
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
)

// What a request waited for may be gone when somebody speaks: a lockout is over, a second key is there. Then nobody's word is wanted by the policy; a no
// must not open the grant for that, and a yes does, written down as what it was.
func TestWhatARequestWaitedForIsGone(t *testing.T) {
	a := newArena(t, func(string) string { return machinePolicy(true) })
	bob, carol := a.person("bob"), a.person("carol")
	g := a.waits(a.alice, "web01") // for she has one key of two
	catest.Must(t, a.enrol(a.stranger("alice"), a.Token("alice").Secret, "second"))
	opened := func() (n int) {
		for _, e := range a.Entries() {
			if e.Type() == "grant.allowed" && e.Subject.Request == g.ID {
				n++
			}
		}
		return n
	}
	catest.Must(t, a.verdict(bob, g.ID, statement.Deny))
	if opened() != 0 {
		t.Fatal("a no opened it")
	}
	a.clock.forward(11 * time.Minute)
	if err := a.again(a.alice, statement.RequestOverride, g, nil); problem(t, err).Code != api.CodeDenied || opened() != 0 {
		t.Errorf("an override of nothing: %v", err)
	}
	a.grant(a.alice) // she just asks again
	catest.Must(t, a.verdict(carol, g.ID, statement.Approve))
	if opened() != 1 {
		t.Fatal("it is not open")
	}
	a.Audit()
}
