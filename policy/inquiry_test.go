package policy_test

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"breakglass/internal/name"
	"breakglass/policy"
)

var updateInquiry = flag.Bool("inquiry", false, "write testdata/v1/inquiry.json if it is missing")

// fullInquiry has every field of an Inquiry set.
func fullInquiry() *policy.Inquiry {
	forward, err := policy.ParseForward("local localhost:5432")
	if err != nil {
		panic(err)
	}
	at := func(s int) time.Time { return time.Date(2026, 11, 24, 3, 0, s, 123456789, time.UTC) }
	src := policy.Source{Addr: netip.MustParseAddr("2001:db8::7"), Country: "GB", CountryBuilt: at(1), Subdivisions: []string{"GB-ENG", "GB-LND"}, ASN: 64500, ASNBuilt: at(2),
		Anonymous: policy.No, AnonymousBuilt: at(3)}
	return &policy.Inquiry{
		Request: policy.Request{Kind: policy.KindNew, Person: "alice", Host: "web01", Login: "root", Minutes: 30, Reason: "disk full <&> \"ü\"", Ticket: "INC-1", Failure: "sso-down",
			Severity: "sev1", Forwards: []policy.Forward{forward}, Drill: true},
		Facts: policy.Facts{Now: at(0), Sources: []policy.Source{src}, Touch: policy.Yes, UV: policy.No, Key: policy.KeyInGrace, Approved: []name.Person{"bob"},
			Refused: []name.Person{"carol"}, TOTP: policy.Yes, Added: []policy.Added{policy.AddedReview}, Waited: 90 * time.Second, Waits: true, Overridden: true,
			OnCall: []policy.OnCall{{List: "sre", On: policy.Yes, Written: at(4), Doubt: "none"}},
			Live: policy.Live{Known: true, Person: []policy.LiveGrant{{ID: "k7f-2mq", Rule: "web", Sources: []policy.Source{src}}},
				Rules: map[name.Rule]int{"web": 2, "db": 1}}},
		Grant: &policy.GrantTime{Start: at(5), End: at(6)},
	}
}

// TestInquiryGolden: what stands in old entries is read for ever, and written back as it was.
func TestInquiryGolden(t *testing.T) {
	q := fullInquiry()
	text, err := q.Text()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "v1", "inquiry.json")
	if _, err := os.Stat(file); *updateInquiry && errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.TrimSuffix(want, []byte("\n"))
	if !bytes.Equal(text, want) {
		t.Errorf("written otherwise than entries have it\ngot:  %s\nwant: %s", text, want)
	}
	back, err := policy.ParseInquiry(want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(q, back, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("read back as another: %s", d)
	}
}

func TestParseInquiryRefuses(t *testing.T) {
	text, err := fullInquiry().Text()
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	for what, bad := range map[string]string{
		"nothing":                "",
		"a fact it doesn't know": strings.Replace(good, `"facts":{`, `"facts":{"moon":"full",`, 1),
		"a key state of nowhere": strings.Replace(good, `"in grace"`, `"fine"`, 1),
		"no answer to a touch":   strings.Replace(good, `"touch":"yes"`, `"touch":"maybe"`, 1),
		"a forward of no kind":   strings.Replace(good, `local localhost`, `sideways localhost`, 1),
		"an address that isn't":  strings.Replace(good, `2001:db8::7`, `home`, 1),
		"another behind it":      good + good,
		"half of it":             good[:len(good)/2],
		"more than an entry":     strings.Replace(good, "disk full", strings.Repeat("x", policy.MaxInquiry), 1),
	} {
		if bad == good {
			t.Errorf("%s: the test changed nothing", what)
		}
		if q, err := policy.ParseInquiry([]byte(bad)); !errors.Is(err, policy.ErrInquiry) {
			t.Errorf("%s: %v, %v", what, q, err)
		}
	}
}

// TestInquiryDecidesAlike: whatever is decided, the Inquiry's text decides the same, as a request and as a session under a grant.
func TestInquiryDecidesAlike(t *testing.T) {
	p := basePolicy(t)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 5_000 {
		a := random(r)
		a.facts.Waits = i%5 == 0
		q := &policy.Inquiry{Request: a.req, Facts: a.facts}
		q.Facts.Now = q.Facts.Now.In(time.FixedZone("elsewhere", 3600*(i%20)))
		if i%3 == 0 {
			q.Grant = &policy.GrantTime{Start: now.Add(-time.Duration(r.IntN(90)) * time.Minute), End: now.Add(time.Duration(r.IntN(60)-20) * time.Minute)}
		}
		text, err := q.Text()
		if err != nil {
			t.Fatal(err)
		}
		back, err := policy.ParseInquiry(text)
		if err != nil {
			t.Fatal(err)
		}
		was, is := q.Answer(p), back.Answer(p)
		if d := cmp.Diff(was, is); d != "" {
			t.Fatalf("%s\ndecides otherwise: %s", text, d)
		}
		if again, err := back.Text(); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("written again as another: %v\n%s\n%s", err, text, again)
		}
		d, line := q.AnswerLines(p)
		if cmp.Diff(d, was) != "" {
			t.Fatalf("with lines it decides otherwise: %s", text)
		}
		if d.Outcome != policy.Deny && line == 0 {
			t.Fatalf("%s by rule %q comes from no line", d.Outcome, d.Rule)
		}
	}
}

// TestWaitsIsNotDecidedByTimeAlone: what a request waited for may be gone; then somebody's word is still wanted, and one is enough.
func TestWaitsIsNotDecidedByTimeAlone(t *testing.T) {
	p := basePolicy(t)
	for _, c := range []struct {
		when     string
		kind     policy.Kind
		waits    bool
		approved []name.Person
		want     policy.Outcome
	}{
		{"a new request that waits for nothing is allowed", policy.KindNew, false, nil, policy.Allow},
		{"one that waits wants somebody's word", policy.KindNew, true, nil, policy.Ask},
		{"an owner's or operator's word is enough", policy.KindNew, true, []name.Person{"dan"}, policy.Allow},
		{"the word of somebody who may not approve is none", policy.KindNew, true, []name.Person{"erin"}, policy.Ask},
		{"their own word is none", policy.KindNew, true, []name.Person{"bob"}, policy.Ask},
		{"an extension that waits wants it too", policy.KindExtend, true, nil, policy.Ask},
		{"an override has nothing to replace", policy.KindOverride, true, nil, policy.Deny},
	} {
		a := usual()
		is("bob")(&a)
		a.req.Kind, a.facts.Waits, a.facts.Approved = c.kind, c.waits, c.approved
		if d := policy.Decide(p, a.req, a.facts); d.Outcome != c.want {
			t.Errorf("%s: %s %v", c.when, d.Outcome, d.Reasons)
		} else if d.Outcome == policy.Ask && (d.Missing != 1 || d.Approvals != 1 || len(d.Approvers) == 0 || d.Wait == 0) {
			t.Errorf("%s: %+v", c.when, d)
		}
	}
}

func FuzzParseInquiry(f *testing.F) {
	text, err := fullInquiry().Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"request":{},"facts":{}}`))
	f.Add([]byte(`{"request":{"kind":"new"},"facts":{"now":"2026-11-24T03:00:00Z","sources":[{"addr":"::ffff:1.2.3.4"}],"waited":-1}}`))
	p := basePolicy(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := policy.ParseInquiry(data)
		if err != nil {
			return
		}
		d := q.Answer(p) // never panics
		again, err := q.Text()
		if err != nil {
			return // times outside of what JSON can say
		}
		back, err := policy.ParseInquiry(again)
		if err != nil {
			t.Fatalf("%s is not read back: %v", again, err)
		}
		if e := back.Answer(p); e.Outcome != d.Outcome || e.Rule != d.Rule {
			t.Fatalf("%s decides %s, was %s", again, e.Outcome, d.Outcome)
		}
	})
}

// BenchmarkInquiryText is what a decision pays for being one that can be made again.
func BenchmarkInquiryText(b *testing.B) {
	a := usual()
	q := &policy.Inquiry{Request: a.req, Facts: a.facts}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		text, err := q.Text()
		if err != nil {
			b.Fatal(err)
		}
		n = len(text)
	}
	b.ReportMetric(float64(n), "bytes")
}
