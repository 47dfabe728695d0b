package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/policy"
)

// Keys that no host of the policy has.
const (
	freshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	otherKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	dbKey    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBixkL6VG7Wy5UZkhnfmYr4OOriWZKSuSsmaTXc+7WTm"
	siteCA   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwDSJ84LjjqtDwgx+c6dKuX0jT3sN1DMq3TShf+tj9n"
)

// opened is the base policy with group web opened, a rule that goes by names, and patterns.
func opened(t testing.TB) *policy.Policy {
	t.Helper()
	p, err := policy.Load("opened.toml", []byte(openedText(t)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openedText(t testing.TB) string {
	return baseText(t) + `
[host_groups.web]
import = true
[host_groups.edge]
import = true
[hosts.prod-a]
address = ["10.0.7.1:22"]
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"]
[hosts."ca-*"]
host_ca = ["` + siteCA + `"]
[jumps.j1]
address = ["192.0.2.77:22"]
[[rule]]
name = "prod"
why = "Production, by its names."
who = ["alice"]
hosts = ["prod-*"]
logins = ["root"]
minutes = 10
[[rule]]
name = "prodweb"
why = "Both."
who = ["alice"]
hosts = ["web0*", "@web"]
logins = ["root"]
minutes = 10
[[test]]
name = "there is no host called nowhere"
person = "alice"
host = "nowhere"
login = "root"
from = ["198.51.100.7"]
expect = "deny"
reasons = ["unknown_host"]
`
}

func entry(n, address, key string, groups ...string) string {
	s := fmt.Sprintf("[hosts.%s]\n", n)
	if address != "" {
		s += fmt.Sprintf("address = [%q]\n", address)
	}
	if key != "" {
		s += fmt.Sprintf("host_keys = [%q]\n", key)
	}
	if len(groups) > 0 {
		s += fmt.Sprintf("groups = [%q]\n", strings.Join(groups, `", "`))
		s = strings.ReplaceAll(s, `\"`, `"`)
	}
	return s
}

// TestImport: what one operator may add, and why everything else is refused.
func TestImport(t *testing.T) {
	p := opened(t)
	good := entry("new1", "10.9.9.1:22", freshKey, "web")
	for _, c := range []struct {
		why, hosts string
		code       policy.ImportCode // "" with want "": it is imported
		want       string
	}{
		{"a new host in an opened group", good, "", ""},
		{"two of them", good + entry("new2", "[2001:db8::9]:22", otherKey, "web", "edge"), "", ""},
		{"in the first host of a group", entry("new1", "10.9.9.1:22", freshKey, "edge"), "", ""},
		{"by a DNS name", entry("new1", "new1.example.org:22", freshKey, "web"), "", ""},
		{"checked by a host CA", "[hosts.new1]\naddress = [\"10.9.9.1:22\"]\nhost_ca = [\"" + siteCA + "\"]\ngroups = [\"web\"]\n", "", ""},
		{"with keys from the owners' pattern", entry("ca-1", "10.9.9.1:22", "", "web"), "", ""},
		{"a rule names the pattern and the opened group alike", entry("web09", "10.9.9.1:22", freshKey, "web"), "", ""},

		{"a known host", entry("db01", "10.9.9.1:22", freshKey, "web"), policy.ImportKnown, "db01 is known already: it has an entry in line"},
		{"a known host with nothing new", "[hosts.web01]\n", policy.ImportKnown, "web01 is known already"},
		{"a host that a pattern covers whole", entry("lb77", "10.9.9.1:22", freshKey, "web"), policy.ImportKnown, `lb77 is known already: "lb*" in line`},
		{"a pattern", "[hosts.\"n*\"]\naddress = [\"{host}.example.org:22\"]\nhost_keys = [\"" + freshKey + "\"]\ngroups = [\"web\"]\n", policy.ImportPattern, `"n*" is a pattern`},
		{"no group", entry("new1", "10.9.9.1:22", freshKey), policy.ImportNoGroup, "new1 is in no group"},
		{"a group that nobody opened", entry("new1", "10.9.9.1:22", freshKey, "db"), policy.ImportGroupClosed, `new1 would be in group "db"`},
		{"an opened group and another", entry("new1", "10.9.9.1:22", freshKey, "web", "db"), policy.ImportGroupClosed, `"db"`},
		{"a name that a rule takes", entry("prod-db01", "10.9.9.1:22", freshKey, "edge"), policy.ImportByName, `rule "prod" would take prod-db01 for its name`},
		{"a name that a rule takes, in a group that another one opens", entry("prod-db01", "10.9.9.1:22", freshKey, "web"), policy.ImportByName, `rule "prod" would take prod-db01`},
		{"the address of a known host", entry("new1", "10.0.2.1:22", freshKey, "web"), policy.ImportSameAddress, "new1 is at 10.0.2.1:22, and so is db01"},
		{"it on another port", entry("new1", "10.0.2.1:2222", freshKey, "web"), policy.ImportSameAddress, "so is db01"},
		{"it written as IPv6", entry("new1", "[::ffff:10.0.2.1]:22", freshKey, "web"), policy.ImportSameAddress, "so is db01"},
		{"the name at which a pattern's host is", entry("new1", "LB07.example.net:22", freshKey, "web"), policy.ImportSameAddress, "so is lb07"},
		{"the same with a dot at its end", entry("new1", "lb07.example.net.:22", freshKey, "web"), policy.ImportSameAddress, "so is lb07"},
		{"another port of the loopback", entry("new1", "127.0.0.1:2201", freshKey, "web") + entry("new2", "127.0.0.1:2202", otherKey, "web"), "", ""},
		{"a port of the loopback twice", entry("new1", "127.0.0.1:2201", freshKey, "web") + entry("new2", "127.0.0.1:2201", otherKey, "web"), policy.ImportSameAddress, "so is new1"},
		{"the address of a jump", entry("new1", "192.0.2.77:2022", freshKey, "web"), policy.ImportSameAddress, `so is jump "j1"`},
		{"the key of a known host", entry("new1", "db.example.org:22", dbKey, "web"), policy.ImportSameKey, "new1 has the host key of db01"},
		{"two at one address", good + entry("new2", "10.9.9.1:23", otherKey, "web"), policy.ImportSameAddress, "so is new1"},
		{"two with one key", good + entry("new2", "10.9.9.2:22", freshKey, "web"), policy.ImportSameKey, "key of new1"},
		{"no address", entry("new1", "", freshKey, "web"), "", "host \"new1\" has no address"},
		{"no key", entry("new1", "10.9.9.1:22", "", "web"), "", "import:1:8: host \"new1\" has no key to check it by"},
		{"a rule beside", good + "[[rule]]\nname = \"door\"\n", "", `import:5:3: "rule" may not stand in import`},
		{"an opened group beside", good + "[host_groups.db]\nimport = true\n", "", `"host_groups" may not stand`},
		{"what would go on with the table before", "groups = [\"db\"]\n" + good, "", `import:1:1: unknown key "groups"`},
		{"another file", good + "-- policy.toml --\n", "", "import:5"},
		{"a file's marker in a string", good + "[hosts.x]\naddress = ['''\n-- z.toml --\n''']\n", "", "would begin another file"},
		{"what turns the reading direction around, in a comment", good + "# \u202e\n", "", "import:5:3: a control character"},
		{"no UTF-8", good + "# \xff\n", "", "not UTF-8"},
		{"a NUL", good + "# \x00\n", "", "a control character"},
		{"nothing", "# hello\n", "", "there is no [hosts.NAME] in it"},
		{"the end cut off", strings.TrimSuffix(good, "\n"), "", "line feed"},
		{"a host of the policy's own tests", entry("nowhere", "10.9.9.1:22", freshKey, "web"), "", `test "there is no host called nowhere" failed`},
		{"a misspelt key", entry("new1", "10.9.9.1:22", freshKey, "web") + "adress = []\n", "", `import:5:1: unknown key "adress" in [hosts.new1]; did you mean "address"?`},
		{"too much at once", good + strings.Repeat("#\n", policy.MaxImport), "", "at most"},
	} {
		q, added, err := policy.Import(p, c.hosts)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.why, err)
				continue
			}
			for _, h := range added {
				if got, ok := q.Host(h.Name); !ok || got.File != "imported.toml" {
					t.Errorf("%s: %+v %v", c.why, got, ok)
				}
			}
			continue
		}
		if err == nil || q != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", c.why, err, c.want)
		}
		var ie *policy.ImportError
		if errors.As(err, &ie) != (c.code != "") {
			t.Errorf("%s: %T %v", c.why, err, err)
		} else if ie != nil && !slices.ContainsFunc(ie.Refused, func(r policy.Refusal) bool { return r.Code == c.code && r.Line > 0 && r.Next != "" }) {
			t.Errorf("%s: %+v", c.why, ie.Refused)
		}
	}
}

// TestImportDecides: whoever the rules of the opened group let in gets in, and nobody else does.
func TestImportDecides(t *testing.T) {
	p := opened(t)
	q, added, err := policy.Import(p, entry("new1", "10.9.9.1:22", freshKey, "web"))
	if err != nil || len(added) != 1 || added[0].Name != "new1" {
		t.Fatal(added, err)
	}
	r := usual()
	r.req.Host = "new1"
	if d := policy.Decide(p, r.req, r.facts); d.Outcome != policy.Deny {
		t.Errorf("before the import: %v", d)
	}
	known := usual()
	known.req.Host = "web01"
	if d, e := policy.Decide(q, r.req, r.facts), policy.Decide(q, known.req, known.facts); d.Outcome != e.Outcome || d.Rule != e.Rule {
		t.Errorf("new1 is decided %v, web01 of the same group %v", d, e)
	}
	// A second import stands behind the first, and can't change it.
	if _, _, err := policy.Import(q, entry("new1", "10.9.9.2:22", otherKey, "edge")); err == nil {
		t.Error("a host is imported twice")
	}
	if _, _, err := policy.Import(q, "groups = [\"db\"]\n"+entry("new2", "10.9.9.2:22", otherKey, "edge")); err == nil {
		t.Error("an import goes on with the one before")
	}
	if _, _, err := policy.Import(q, entry("new2", "10.9.9.2:22", otherKey, "edge")); err != nil {
		t.Error(err)
	}
}

// TestImportsNeedAnOpenGroup: of a policy that opens nothing, nothing can be imported.
func TestImportsNeedAnOpenGroup(t *testing.T) {
	_, _, err := policy.Import(basePolicy(t), entry("new1", "10.9.9.1:22", freshKey, "web"))
	if err == nil || !strings.Contains(err.Error(), "no group is opened") {
		t.Error(err)
	}
	for _, c := range []struct{ text, want string }{
		{"[host_groups.web]\n", `host group "web" says nothing`},
		{"[host_groups.wbe]\nimport = false\n", `no host is in group "wbe"; did you mean`},
		{"[host_groups.web]\nimprt = true\n", `unknown key "imprt"`},
		{"[host_groups.\"@web\"]\nimport = true\n", `@web`},
	} {
		if _, err := policy.Load("x", []byte(baseText(t)+c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	p, err := policy.Load("x", []byte(baseText(t)+"[host_groups.idle]\nimport = true\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(policy.Check(p), func(f policy.Finding) bool {
		return strings.Contains(f.Message, `group "idle", and no rule opens that`)
	}) {
		t.Error("a group that nobody gets anywhere by is not found")
	}
}

func TestCompare(t *testing.T) {
	p := opened(t)
	for _, c := range []struct {
		why  string
		edit []string // old, new
		want []string
	}{
		{"nothing", []string{"# The policy", "# A policy"}, nil},
		{"lines that move", []string{"[people.alice]", "\n\n[people.alice]"}, nil},
		{"a host's group", []string{"groups = [\"db\"]", "groups = [\"db\", \"web\"]"}, []string{"host db01 changed: groups"}},
		{"a host's key and address", []string{"address = [\"10.0.7.1:22\"]\nhost_keys", "address = [\"10.0.7.2:22\"]\nhost_ca"}, []string{"host prod-a changed: address, host_keys, host_ca"}},
		{"a rule's minutes", []string{"logins = [\"root\"]\nminutes = 10\n[[rule]]", "logins = [\"root\"]\nminutes = 11\n[[rule]]"}, []string{"rule prod changed: minutes"}},
		{"a pattern's key changes its hosts' too", []string{"[hosts.\"ca-*\"]", "[hosts.\"ca-*\"]\ngroups = [\"lb\"]"}, []string{"pattern ca-* changed: groups"}},
		{"a person's groups", []string{"groups = [\"trainee\"]", "groups = [\"trainee\", \"leads\"]"}, []string{"person erin changed: groups"}},
		{"a group closed", []string{"[host_groups.edge]\nimport = true\n", ""}, []string{"group edge removed"}},
		{"always", []string{"geo_max_age_days = 30", "geo_max_age_days = 31"}, []string{"always changed: geo_max_age"}},
		{"a jump", []string{"[jumps.j1]\naddress = [\"192.0.2.77:22\"]\n", ""}, []string{"jump j1 removed"}},
	} {
		text := strings.Replace(openedText(t), c.edit[0], c.edit[1], 1)
		q, err := policy.Load("x", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		var got []string
		for _, x := range policy.Compare(p, q) {
			got = append(got, x.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
}

// FuzzImport: whatever is imported, nobody gets anywhere that is not a new host, reached by a rule that names an opened group; all else is as it was.
func FuzzImport(f *testing.F) {
	p := opened(f)
	f.Add(entry("new1", "10.9.9.1:22", freshKey, "web"))
	f.Add("groups = [\"db\"]\n" + entry("new1", "10.9.9.1:22", freshKey, "web"))
	f.Add(entry("prod-1", "10.9.9.1:22", freshKey, "web"))
	f.Add("hosts.x = { address = [\"10.9.9.1:22\"], host_keys = [\"" + freshKey + "\"], groups = [\"edge\"] }\n")
	f.Add("[hosts]\nx.groups = [\"edge\"]\nx.address = [\"x.example.org:1\"]\nx.host_ca = [\"" + siteCA + "\"]\n")
	f.Add("[hosts.x]\naddress = ['''\n-- z.toml --\n''']\n")
	f.Fuzz(func(t *testing.T, hosts string) {
		q, added, err := policy.Import(p, hosts)
		if err != nil {
			if q != nil || err.Error() == "" {
				t.Fatal("refused, and there is a policy")
			}
			return
		}
		for _, c := range policy.Compare(p, q) {
			if c.Kind != "host" || c.What != policy.Gained {
				t.Fatalf("%q: %s", hosts, c)
			}
		}
		for _, h := range added {
			for _, g := range h.Groups {
				if g != "web" && g != "edge" {
					t.Fatalf("%q: in group %s", hosts, g)
				}
			}
			if _, known := p.Host(h.Name); known {
				t.Fatalf("%q: %s was known", hosts, h.Name)
			}
			a := usual()
			a.req.Host = h.Name
			if d := policy.Decide(q, a.req, a.facts); d.Outcome != policy.Deny && d.Rule == "prod" {
				t.Fatalf("%q: %v", hosts, d)
			}
		}
	})
}

// TestAZoneReadInSummerIsTheSameInWinter: a time.Location remembers what was true when it was read. Of a service that has run since before the clock
// was changed, every import would else change a window, and be refused.
func TestAZoneReadInSummerIsTheSameInWinter(t *testing.T) {
	text := openedText(t) + "\n[windows.night]\nzone = \"Europe/Berlin\"\nfrom = \"22:00\"\nto = \"06:00\"\n"
	p, err := policy.Parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	q, err := policy.Parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p.Windows["night"].Zone = time.FixedZone("Europe/Berlin", 3600)
	q.Windows["night"].Zone = time.FixedZone("Europe/Berlin", 7200)
	if d := policy.Compare(p, q); len(d) != 0 {
		t.Error(d)
	}
	q.Windows["night"].Zone = time.UTC
	if d := policy.Compare(p, q); len(d) != 1 || d[0].String() != "window night changed: zone" {
		t.Error(d)
	}
}

// TestImportAtAPatternsNameWithADot: a name of the DNS is the same with a dot at its end, whichever of the two has it.
func TestImportAtAPatternsNameWithADot(t *testing.T) {
	text := strings.Replace(openedText(t), `"{host}.example.net:22"`, `"{host}.example.net.:22"`, 1)
	p, err := policy.Load("x", []byte(text))
	if err != nil || text == openedText(t) {
		t.Fatal(err)
	}
	for _, at := range []string{"lb07.example.net:22", "lb07.example.net.:2222"} {
		var ie *policy.ImportError
		if _, _, err := policy.Import(p, entry("new1", at, freshKey, "web")); !errors.As(err, &ie) || ie.Refused[0].Code != policy.ImportSameAddress {
			t.Errorf("%s: %v", at, err)
		}
	}
}
