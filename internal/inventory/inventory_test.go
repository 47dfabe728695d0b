package inventory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

const (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	keyB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	keyC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
)

// said writes a list in lines: "name address… #keys +ca @groups" and "! line what: why".
func said(l *List) (out []string) {
	for _, h := range l.Hosts {
		s := h.Name + " " + strings.Join(h.Address, " ")
		if len(h.Keys) > 0 {
			s += fmt.Sprintf(" #%d", len(h.Keys))
		}
		if len(h.CA) > 0 {
			s += fmt.Sprintf(" +%d", len(h.CA))
		}
		if len(h.Groups) > 0 {
			s += " @" + strings.Join(h.Groups, ",")
		}
		out = append(out, s)
	}
	for _, r := range l.Refused {
		out = append(out, fmt.Sprintf("! %d %s: %s", r.Line, r.What, r.Why))
	}
	return out
}

func check(t *testing.T, why string, l *List, want ...string) {
	t.Helper()
	got := said(l)
	if len(got) != len(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", why, strings.Join(got, "\n"), strings.Join(want, "\n"))
		return
	}
	for i := range got {
		if got[i] != want[i] && !(strings.HasPrefix(want[i], "!") && strings.HasPrefix(got[i], want[i])) {
			t.Errorf("%s: %q, want %q", why, got[i], want[i])
		}
	}
	for _, r := range l.Refused {
		if r.Next == "" {
			t.Errorf("%s: %q says not what to do", why, r.Why)
		}
	}
}

func TestKnownHosts(t *testing.T) {
	for _, c := range []struct {
		why, text string
		want      []string
	}{
		{"a name", "web01 " + keyA + "\n", []string{"web01 web01:22 #1"}},
		{"a name and its address", "web01,10.0.0.5 " + keyA + " a comment\n", []string{"web01 10.0.0.5:22 web01:22 #1"}},
		{"capitals", "WEB01.Example.NET " + keyA, []string{"web01.example.net web01.example.net:22 #1"}},
		{"a port", "[web01]:2222,[10.0.0.5]:2222 " + keyA, []string{"web01 10.0.0.5:2222 web01:2222 #1"}},
		{"IPv6", "web01,fd00::5 " + keyA + "\n[web02]:2200,[fd00::6]:2200 " + keyB, []string{"web01 [fd00::5]:22 web01:22 #1", "web02 [fd00::6]:2200 web02:2200 #1"}},
		{"an address alone", "10.0.0.5 " + keyA, []string{"10.0.0.5 10.0.0.5:22 #1"}},
		{"several keys of a host, one twice", "web01 " + keyA + "\nweb01,10.0.0.5 " + keyB + "\nweb01 " + keyA, []string{"web01 10.0.0.5:22 web01:22 #2"}},
		{"comments and empty lines", "# hello\n\n  \nweb01 " + keyA, []string{"web01 web01:22 #1"}},
		{"a CA for a name", "@cert-authority web01 " + keyA, []string{"web01 web01:22 +1"}},
		{"a CA for a pattern", "@cert-authority *.example.net " + keyA, []string{"*.example.net {host}:22 +1"}},
		{"a hashed name", "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= " + keyA, []string{"! 1 |1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=: its name is hashed"}},
		{"a revoked key", "@revoked * " + keyA + "\nweb01 " + keyA + "\nweb02 " + keyB, []string{"web02 web02:22 #1", "! 1 *: its key is revoked", "! 2 web01: one of its keys is revoked in line 1"}},
		{"a revoked key, further down", "web01 " + keyA + "\n@revoked web01 " + keyA, []string{"! 2 web01: its key is revoked", "! 1 web01: one of its keys"}},
		{"a pattern", "*.example.net " + keyA, []string{"! 1 *.example.net: one key for all hosts"}},
		{"a negated name", "web01,!web02 " + keyA, []string{"! 1 web01,!web02: names with !"}},
		{"no key", "web01\n", []string{"! 1 : it is no line"}},
		{"a key that is none", "web01 ssh-ed25519 AAAA", []string{"! 1 web01: the key can't be read"}},
		{"a type that is not the key's", "web01 ssh-rsa " + strings.Fields(keyA)[1], []string{"! 1 web01: the key is ssh-ed25519"}},
		{"an unknown marker", "@ca web01 " + keyA, []string{"! 1 web01: unknown marker"}},
		{"IPv6 alone is no name", "fd00::5 " + keyA, []string{"! 1 fd00::5: it has no name"}},
		{"a zone", "web01,fe80::1%eth0 " + keyA, []string{"! 1 web01,fe80::1%eth0: address"}},
		{"Windows' line ends", "web01 " + keyA + "\r\nweb02 " + keyB + "\r\n", []string{"web01 web01:22 #1", "web02 web02:22 #1"}},
	} {
		check(t, c.why, KnownHosts(c.text), c.want...)
	}
}

func TestAnsible(t *testing.T) {
	for _, c := range []struct {
		why, text string
		want      []string
	}{
		{"INI", "mail ansible_host=10.0.0.9\n[web]\nweb[01:02] ansible_user=root # two\n[db]\ndb1 ansible_host='fd00::7' ansible_port=2222\n",
			[]string{"db1 [fd00::7]:2222 @db", "mail 10.0.0.9:22", "web01 web01:22 @web", "web02 web02:22 @web"}},
		{"INI, groups of groups", "[web]\nw1\n[prod:children]\nweb\n[all:vars]\nansible_port=2022\n", []string{"w1 w1:2022 @prod,web"}},
		{"INI, a host's own port before its group's", "[web]\nw1 ansible_port=22\n[web:vars]\nansible_port=2022\n", []string{"w1 w1:22 @web"}},
		{"INI, groups that contradict each other", "[a]\nw1\n[b]\nw1\n[a:vars]\nansible_port=1\n[b:vars]\nansible_port=2\n", []string{"! 2 w1: its groups give it ansible_port 1 and 2"}},
		{"INI, a template", "w1 ansible_host={{ip}}\n", []string{"! 1 w1: its address is a template"}},
		{"INI, groups in a circle", "[a:children]\nb\n[b:children]\na\n[a]\nw1\n", []string{"w1 w1:22 @a,b"}},
		{"INI, a range of letters", "w[a:c]\n", []string{"! 1 w[a:c]: the range"}},
		{"INI, a range without an end", "w[0:999999999]\n", []string{"! 1 w[0:999999999]: the range"}},
		{"INI, a name that is none", "-x ansible_host=10.0.0.1\n", []string{"! 1 -x: "}},
		{"YAML", "all:\n  hosts:\n    mail: {ansible_host: 10.0.0.9}\n  children:\n    web:\n      hosts:\n        w[1:2]:\n      vars: {ansible_port: 2022}\n    db:\n      hosts:\n        db1: {ansible_host: fd00::7}\n",
			[]string{"db1 [fd00::7]:22 @db", "mail 10.0.0.9:22", "w1 w1:2022 @web", "w2 w2:2022 @web"}},
		{"YAML behind ---", "# x\n---\nweb:\n  hosts:\n    w1:\n", []string{"w1 w1:22 @web"}},
		{"JSON", `{"_meta":{"hostvars":{"w1":{"ansible_host":"10.0.0.1","ansible_port":2022}}},"all":{"children":["web"]},"web":{"hosts":["w1","w2"]}}`, []string{"w1 10.0.0.1:2022 @web", "w2 w2:22 @web"}},
	} {
		l, err := Ansible(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		check(t, c.why, l, c.want...)
	}
	for _, bad := range []string{"[web\nw1\n", "[web:hosts]\nw1\n", "w1 ansible_host\n", "w1 a='b\n", "[w:vars]\nx\n", "all:\n\thosts:\n", `{"web": 3}`, `{} {}`} {
		if _, err := Ansible(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCSV(t *testing.T) {
	for _, c := range []struct {
		why, text string
		want      []string
	}{
		{"a table", "name,address,groups,host_key\nweb01,10.0.0.5,web;prod," + keyA + "\n", []string{"web01 10.0.0.5:22 #1 @web,prod"}},
		{"another order, spaces, quotes", "host_key, name, address\n\"" + keyA + " web01;" + keyB + "\", web01, \"web01.example.net; [fd00::5]:2222\"\n", []string{"web01 [fd00::5]:2222 web01.example.net:22 #2"}},
		{"no key", "name,address\nweb01,fd00::5\n", []string{"web01 [fd00::5]:22"}},
		{"a host CA", "name,address,host_ca\nweb01,10.0.0.5," + keyC + "\n", []string{"web01 10.0.0.5:22 +1"}},
		{"twice", "name,address\nweb01,10.0.0.5\nWEB01,10.0.0.6\n", []string{"web01 10.0.0.5:22", "! 3 web01: it stands in line 2 already"}},
		{"a field too few", "name,address\nweb01\nweb02,10.0.0.6\n", []string{"web02 10.0.0.6:22", "! 2 : it has 1 fields"}},
		{"a bad port", "name,address\nweb01,10.0.0.5:0\n", []string{"! 2 web01: port"}},
		{"a pattern", "name,address\nweb*,10.0.0.5\n", []string{"! 2 web*: "}},
		{"a key that is none", "name,address,host_key\nweb01,10.0.0.5,ssh-ed25519\n", []string{"! 2 web01: host_key: want"}},
		{"a group that is none", "name,address,groups\nweb01,10.0.0.5,@web\n", []string{"! 2 web01: "}},
	} {
		l, err := CSV(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		check(t, c.why, l, c.want...)
	}
	for _, bad := range []string{"", "name\nx\n", "name,address,adress\n", "name,name,address\n", "name,address\n\"x\n"} {
		if _, err := CSV(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestAddKeys: keys come from known_hosts by name or address, of the port that was asked.
func TestAddKeys(t *testing.T) {
	l, err := Ansible("w1 ansible_host=10.0.0.1\nw2\nw3 ansible_port=2222\nw4\n")
	if err != nil {
		t.Fatal(err)
	}
	l.AddKeys(KnownHosts("10.0.0.1 " + keyA + "\nw2 " + keyB + "\nw3 " + keyC + "\n"))
	check(t, "by address, by name, not of another port", l, "w1 10.0.0.1:22 #1", "w2 w2:22 #1", "w3 w3:2222", "w4 w4:22")
	l.AddKeys(KnownHosts("[w3]:2222 " + keyC + "\n@cert-authority w4 " + keyA + "\n"))
	check(t, "of the port, and by a CA", l, "w1 10.0.0.1:22 #1", "w2 w2:22 #1", "w3 w3:2222 #1", "w4 w4:22 +1")
}

// sound holds what any parser gives against what the package promises: hosts that TOML has as they are.
func sound(t *testing.T, l *List) {
	var b strings.Builder
	for _, h := range l.Hosts {
		b.WriteString(h.TOML())
	}
	var f struct {
		Hosts map[string]struct {
			Address []string `toml:"address"`
			Keys    []string `toml:"host_keys"`
			CA      []string `toml:"host_ca"`
			Groups  []string `toml:"groups"`
		} `toml:"hosts"`
	}
	d := toml.NewDecoder(strings.NewReader(b.String())).DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%v:\n%s", err, b.String())
	}
	if len(f.Hosts) != len(l.Hosts) {
		t.Fatalf("%d hosts became %d", len(l.Hosts), len(f.Hosts))
	}
	for _, h := range l.Hosts {
		g := f.Hosts[h.Name]
		if !slices.Equal(g.Address, h.Address) || !slices.Equal(g.Keys, h.Keys) || !slices.Equal(g.CA, h.CA) || !slices.Equal(g.Groups, h.Groups) {
			t.Fatalf("%+v became %+v", h, g)
		}
	}
	for _, r := range l.Refused {
		if r.Why == "" || r.Next == "" {
			t.Fatalf("refused without a reason: %+v", r)
		}
	}
}

func FuzzKnownHosts(f *testing.F) {
	f.Add("web01,10.0.0.5 " + keyA + "\n@cert-authority *.x " + keyB + "\n[a]:2,[::1]:2 " + keyC + "\n|1|a|b " + keyA + "\n@revoked * " + keyA)
	f.Fuzz(func(t *testing.T, text string) { sound(t, KnownHosts(text)) })
}

func FuzzAnsible(f *testing.F) {
	f.Add("[web]\nweb[01:02] ansible_host='x'\n[a:children]\nweb\n[a:vars]\nansible_port=2\n")
	f.Add("all:\n  hosts:\n    a: {ansible_host: 10.0.0.1}\n  children: {b: {hosts: {c: }}}\n")
	f.Add(`{"_meta":{"hostvars":{"w1":{"ansible_port":2022}}},"web":{"hosts":["w1"]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := Ansible(text); err == nil {
			sound(t, l)
		} else if !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add("name,address,groups,host_key\nweb01,10.0.0.5;[fd00::1]:2,web," + keyA + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := CSV(text); err == nil {
			sound(t, l)
		} else if !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}
