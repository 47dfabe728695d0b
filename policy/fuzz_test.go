package policy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/policytext"
	"breakglass/policy"
)

// seeds are policies that load and some that don't: files, a set of files, and every key that there is.
func seeds(t testing.TB) map[string][]byte {
	t.Helper()
	bad, err := filepath.Glob("testdata/v1/bad/*.toml")
	if err != nil || len(bad) == 0 {
		t.Fatal(bad, err)
	}
	out := map[string][]byte{}
	for _, file := range append(bad, "testdata/v1/base.toml", "testdata/v1/every.toml") {
		if out[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	for file, tab := range tables(t) {
		out[file] = []byte(tab.text)
	}
	every := string(out["testdata/v1/every.toml"])
	at := strings.Index(every, "[hosts.web01]")
	end := at + strings.Index(every[at:], "[[rule]]")
	set, err := policytext.Join([]policytext.File{{Name: policytext.Main, Text: every[:at] + every[end:]}, {Name: "hosts/web.toml", Text: every[at:end]}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load("set", []byte(set)); err != nil {
		t.Fatal(err)
	}
	out["set"] = []byte(set)
	return out
}

// FuzzLoad: whatever the bytes, loading them ends, with faults at their places or with a policy that hashes to itself, is checked, tested and explained
// without a panic, decides whatever is asked the same way twice, and lets nobody in without a touch.
func FuzzLoad(f *testing.F) {
	for _, src := range seeds(f) {
		f.Add(src, uint64(1))
	}
	var asks []ask
	for _, tab := range tables(f) {
		for _, s := range tab.rows {
			r, err := parseRow(s)
			if err != nil {
				f.Fatal(err)
			}
			asks = append(asks, r.ask)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, seed uint64) {
		p, err := policy.Parse("f.toml", src)
		if err != nil {
			var le *policy.LoadError
			if !errors.As(err, &le) || len(le.Faults) == 0 || err.Error() == "" {
				t.Fatalf("error without a fault: %#v", err)
			}
			for _, fault := range le.Faults {
				if fault.Line < 1 || fault.Column < 1 {
					t.Fatalf("fault without a place: %+v", fault)
				}
			}
			return
		}
		q, err := policy.Parse("again.toml", p.Source)
		if err != nil || q.SHA256 != p.SHA256 || string(q.Source) != string(src) {
			t.Fatalf("what it was loaded from loads otherwise: %v", err)
		}
		policy.Test(p)
		for _, found := range policy.CheckBriefly(p, 300) { // the whole of it takes milliseconds, and far more under a fuzzer's counters
			if found.Message == "" || found.Next == "" || found.Line < 0 {
				t.Fatalf("a finding that says nothing: %+v", found)
			}
		}
		r := rand.New(rand.NewPCG(seed, 0))
		people, hosts := p.People(), p.HostNames()
		for range 20 {
			a := asks[r.IntN(len(asks))]
			a.req.Person = people[r.IntN(len(people))]
			if len(hosts) > 0 && r.IntN(4) > 0 {
				a.req.Host = hosts[r.IntN(len(hosts))]
			}
			rule := p.Rules[r.IntN(len(p.Rules))]
			a.req.Login = rule.Logins[r.IntN(len(rule.Logins))]
			d := policy.Decide(p, a.req, a.facts)
			if e := policy.Decide(q, a.req, a.facts); fmt.Sprint(e) != fmt.Sprint(d) {
				t.Fatalf("decides %+v, and then %+v", d, e)
			}
			if d.Outcome != policy.Deny && (d.Minutes < 1 || d.Minutes > p.Always.MaxMinutes) {
				t.Fatalf("granted %d minutes", d.Minutes)
			}
			if text := policy.Explain(p, a.req, a.facts); !strings.Contains(text, "\n"+d.Outcome.String()) {
				t.Fatalf("decides %s and explains %s", d.Outcome, text)
			}
			a.facts.Touch = policy.Unknown
			if d := policy.Decide(p, a.req, a.facts); d.Outcome != policy.Deny {
				t.Fatal("no touch, but a certificate")
			}
		}
	})
}

// TestMuchOfAnythingEnds: a file made to be slow is refused, or loaded and checked, without anybody having to wait.
func TestMuchOfAnythingEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("large files")
	}
	const size = 1 << 17
	fill := func(piece string) string { return strings.Repeat(piece, size/len(piece)) }
	count := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			b.WriteString(strings.ReplaceAll(format, "#", fmt.Sprint(i)))
		}
		return b.String()
	}
	every := string(seeds(t)["testdata/v1/every.toml"])
	host := "address = [\"10.0.0.1:22\"]\nhost_keys = [\"" + keyLine + "\"]\n"
	pattern := "address = [\"{host}.example.net:22\"]\nhost_keys = [\"" + keyLine + "\"]\n"
	for what, src := range map[string]string{
		"rules without anything":   every + fill("[[rule]]\n"),
		"rules":                    every + count("[[rule]]\nname = \"n#\"\nwhy = \"w\"\nwho = [\"alice\"]\nhosts = [\"web01\"]\nlogins = [\"l#\"]\nminutes = 1\n"),
		"rules that nobody passes": every + count("[[rule]]\nname = \"n#\"\nwhy = \"w\"\nwho = [\"alice\"]\nhosts = [\"web01\"]\nlogins = [\"l#\"]\nminutes = 1\nnetworks = [\"blocked\"]\n"),
		"hosts":                    every + count("[hosts.h#]\n"+host),
		"patterns that meet":       every + count("[hosts.\"x#*\"]\n"+pattern),
		"one table for ever":       fill("[hosts.x]\n"),
		"people":                   every + count("[people.p#]\ngroups = [\"g#\"]\n"),
		"networks":                 strings.Replace(every, "[networks]\n", "[networks]\n"+count("n# = [\"10.0.0.0/8\"]\n"), 1),
		"a network of many":        strings.Replace(every, `guests = [`, `guests = [`+fill(`"10.0.0.0/32", `), 1),
		"windows":                  every + count("[windows.w#]\nzone = \"UTC\"\ndates = [\"2026-01-01..2026-12-31\"]\n"),
		"countries":                strings.Replace(every, `countries = [`, `countries = [`+fill(`"DE", `), 1),
		"tests":                    every + count("[[test]]\nname = \"t#\"\nperson = \"alice\"\nhost = \"nowhere\"\nlogin = \"root\"\nfrom = [\"198.51.100.7\"]\nexpect = \"deny\"\nreasons = [\"unknown_host\"]\n"),
		"misspelt references":      strings.Replace(every, `who = [`, `who = [`+count(`"alic#", `), 1),
		"brackets":                 fill("["),
		"quotes":                   "profile = " + fill(`"`),
		"a set without an end":     "-- policy.toml --\n" + fill("-- hosts/a.toml --\n"),
		"a set of many":            "-- policy.toml --\n" + every + count("-- hosts/a#.toml --\n"),
	} {
		start := time.Now()
		p, err := policy.Parse("big.toml", []byte(src))
		if err == nil {
			policy.Test(p)
			policy.Check(p)
		} else if len(err.Error()) > 200_000 {
			t.Errorf("%s: an error of %d bytes", what, len(err.Error()))
		}
		took := time.Since(start)
		t.Logf("%-26s %8v loads=%v", what, took.Round(time.Millisecond), err == nil)
		if took > 30*time.Second {
			t.Errorf("%s: %v", what, took)
		}
	}
}
