package policy_test

import (
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/sitegen"
	"breakglass/policy"
)

// site loads a generated policy.
func site(t testing.TB, s sitegen.Size) *policy.Policy {
	t.Helper()
	p, err := policy.Load("policy.toml", []byte(sitegen.Text(s)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// siteAsk is a person of team i asking for host i, all in order.
func siteAsk(person, host int) ask {
	a := usual()
	a.req.Person, a.req.Host, a.req.Login = name.Person(sitegen.Person(person)), name.Host(sitegen.Host(host)), "root"
	return a
}

func BenchmarkSite(b *testing.B) {
	for _, s := range []struct {
		name string
		sitegen.Size
	}{{"small", sitegen.Small}, {"large", sitegen.Large}} {
		p := site(b, s.Size)
		last := s.Rules - 2 // the last asks for a network too
		pattern, typo, away, denied := siteAsk(4, 4), siteAsk(4, 4), siteAsk(4, 5), siteAsk(s.Rules-1, s.Rules-1)
		pattern.req.Host, typo.req.Host = "pool4-17", "srv-00004.dcx4"
		if s.Patterns <= 4 {
			pattern.req.Host, pattern.req.Person = "pool0-17", "p0"
		}
		for _, c := range []struct {
			name string
			ask
			want policy.Outcome
		}{
			{"allow", siteAsk(4, 4), policy.Allow}, {"allow-last", siteAsk(last, last), policy.Allow}, {"ask", siteAsk(3, 3), policy.Ask},
			{"pattern", pattern, policy.Allow}, {"unknown-host", typo, policy.Deny}, {"unreached", away, policy.Deny}, {"deny-last", denied, policy.Deny},
		} {
			b.Run(s.name+"/"+c.name, func(b *testing.B) {
				if d := policy.Decide(p, c.req, c.facts); d.Outcome != c.want {
					b.Fatalf("%+v", d)
				}
				b.ReportAllocs()
				for b.Loop() {
					policy.Decide(p, c.req, c.facts)
				}
			})
		}
		b.Run(s.name+"/session", func(b *testing.B) {
			a := siteAsk(4, 4)
			g := policy.Grant{Request: a.req, Start: a.facts.Now, End: a.facts.Now.Add(10 * time.Minute)}
			b.ReportAllocs()
			for b.Loop() {
				policy.DecideSession(p, g, a.facts)
			}
		})
	}
}

func BenchmarkLoadLarge(b *testing.B) {
	one := sitegen.Text(sitegen.Large)
	set, err := sitegen.Set(sitegen.Large, 1000)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, text string }{{"file", one}, {"set", set}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := policy.Load("policy.toml", []byte(c.text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
