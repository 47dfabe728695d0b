package roadtest

import (
	"strings"
	"testing"
	"text/template"

	"breakglass/internal/road"
	"breakglass/policy"
)

// TestPoliciesOfTheRoadHaveNoErrors: what the demo shows, and what these tests run on, is what policy check lets an operator run on.
func TestPoliciesOfTheRoadHaveNoErrors(t *testing.T) {
	values := road.Values{Login: "root", Host: "web01", HostAddress: "127.0.0.1:2201", HostKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt/hc1p+UaYXzM+kRk6MxNFL6+TNyilBfU67tbDOO",
		Jump: "jump-a", JumpAddress: "127.0.0.1:2200",
		More: map[string]string{"Model": "[[enrolment.model]]\nname = \"m\"\naaguid = \"2fc0579f-8113-47ea-b116-bb5a8db9202a\"\nroots = [\"" + strings.Repeat("1f", 32) + "\"]\n"}}
	for what, text := range map[string]string{
		"the demo's":                road.DemoPolicy,
		"production's":              productionPolicy,
		"with an emergency":         emergency(t, ""),
		"with an override":          emergency(t, "override = \"after 1s\""),
		"with carol on call":        carols(),
		"with hosts to be imported": road.DemoPolicy + "\n[host_groups.web]\nimport = true\n",
	} {
		filled := new(strings.Builder)
		if err := template.Must(template.New(what).Parse(text)).Execute(filled, values); err != nil {
			t.Fatal(err)
		}
		p, err := policy.Load(what, []byte(filled.String()))
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, f := range policy.Check(p) {
			if f.Severity == policy.SeverityError {
				t.Errorf("%s, line %d: %s", what, f.Line, f.Message)
			}
		}
	}
}
