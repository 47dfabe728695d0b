package policy_test

import (
	"slices"
	"strings"
	"testing"

	"breakglass/internal/name"
	"breakglass/policy"
)

// watchedRule is sound, with a rule over the web servers that wants a watcher: rita is one, rolf leads and reads, cid leads only.
func watchedText(by string) string {
	return strings.NewReplacer(
		"[people.rolf]\n", "[people.rolf]\ngroups = [\"leads\"]\n",
		`why = "On-call enters web servers at once."`, "why = \"w\"\nwatched_by = ["+by+"]\napprovals = 1\napprovers = [\"@leads\"]\noverride = \"after 10m\"",
		`readers = ["rita", "rolf"]`, `readers = ["rita", "rolf", "ann"]`).Replace(sound)
}

func watchedAsk(k policy.Kind, more ...func(*policy.Facts)) (policy.Request, policy.Facts) {
	f := policy.Facts{Now: now, Key: policy.KeyLive, Touch: policy.Yes, UV: policy.Yes, Sources: []policy.Source{bare("198.51.100.7")}}
	for _, m := range more {
		m(&f)
	}
	return policy.Request{Kind: k, Person: "ann", Host: "web01", Login: "root", Reason: reason40, Minutes: 10}, f
}

// Whoever opens a session under the rule is watched, unless the grant went ahead without the approvals that it wanted.
func TestWatchedBy(t *testing.T) {
	p, err := policy.Load("t.toml", []byte(watchedText(`"@leads", "rita", "ann"`)))
	if err != nil {
		t.Fatal(err)
	}
	approved := func(f *policy.Facts) { f.Approved = []name.Person{"cid"} }
	for _, c := range []struct {
		what    string
		kind    policy.Kind
		more    []func(*policy.Facts)
		outcome policy.Outcome
		by      []string
	}{
		{"asked", policy.KindNew, nil, policy.Ask, []string{"@leads", "rita", "ann"}},
		{"approved", policy.KindNew, []func(*policy.Facts){approved}, policy.Allow, []string{"@leads", "rita", "ann"}},
		{"a session", policy.KindSession, []func(*policy.Facts){approved}, policy.Allow, []string{"@leads", "rita", "ann"}},
		{"an override", policy.KindOverride, []func(*policy.Facts){func(f *policy.Facts) { f.Waited = policy.DefaultOverride }}, policy.Allow, nil},
		{"a session under one", policy.KindSession, []func(*policy.Facts){func(f *policy.Facts) { f.Overridden = true }}, policy.Allow, nil},
	} {
		req, facts := watchedAsk(c.kind, c.more...)
		d := policy.Decide(p, req, facts)
		if d.Outcome != c.outcome || !slices.Equal(d.WatchedBy, c.by) {
			t.Errorf("%s: %v %v, watched by %q, want %v by %q", c.what, d.Outcome, d.Reasons, d.WatchedBy, c.outcome, c.by)
		}
		var observers []name.Person
		if c.by != nil {
			observers = []name.Person{"rita", "rolf"} // readers; never ann herself, and cid reads nothing
		}
		if !slices.Equal(d.Observers, observers) {
			t.Errorf("%s: observers %q, want %q", c.what, d.Observers, observers)
		}
	}
	for who, want := range map[name.Person]bool{"rita": true, "rolf": true, "cid": true, "dan": true, "ann": true, "bea": false, "nobody": false} {
		if p.IsOf([]string{"@leads", "rita", "ann"}, who) != want {
			t.Errorf("%s: is one of them: %v", who, !want)
		}
	}
	if p.IsOf(nil, "ann") || p.IsOf([]string{"leads", "@rita"}, "cid") {
		t.Error("names and groups are taken for one another")
	}
}

// A rule that waits for somebody who could never come is no way in, and policy check says so.
func TestWatchedByIsChecked(t *testing.T) {
	for _, c := range []struct{ by, want string }{
		{`"@leads", "rita"`, ""},
		{`"cid"`, `rule "web" is no way in: nobody in its watched_by is a reader`},
		{`"ann"`, `rule "web" is no way in for ann: nobody else could watch`},
	} {
		all := strings.Join(findings(t, watchedText(c.by)), "\n")
		if c.want == "" && strings.Contains(all, "no way in") || !strings.Contains(all, c.want) {
			t.Errorf("%s: %s", c.by, all)
		}
	}
	for by, want := range map[string]string{"": "an empty list of those who watch", `"@nobody"`: "@nobody", `"zoe"`: "zoe"} {
		if _, err := policy.Load("t.toml", []byte(watchedText(by))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("watched_by = [%s]: %v", by, err)
		}
	}
}
