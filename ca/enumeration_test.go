package ca_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
)

// asked is an unsigned ask of each kind, about a person.
var asked = []struct {
	path string
	body func(t *testing.T, person string) any
}{
	{"/v1/requests", func(t *testing.T, p string) any {
		return api.Ask{Person: p, Login: "root", Host: "web01", Reason: catest.Reason, ClientKey: catest.Line(catest.NewKey(t).PublicKey())}
	}},
	{"/v1/passes", func(t *testing.T, p string) any {
		return api.PassAsk{Person: p, Holder: catest.Line(catest.NewKey(t).PublicKey())}
	}},
	{"/v1/recipients", func(_ *testing.T, p string) any {
		return api.RecipientAsk{Person: p, Age: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", Sealed: "passphrase"}
	}},
	{"/v1/recipients/rotation", func(_ *testing.T, p string) any {
		return api.RotationAsk{Person: p, Old: "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", Age: "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg", Sealed: "hardware"}
	}},
	{"/v1/approvals", func(_ *testing.T, p string) any {
		return api.ApprovalAsk{Person: p, About: statement.AboutUnlock, Of: "totp:alice", Verdict: statement.Approve, Hash: statement.Hash{1}}
	}},
	{"/v1/orders", func(_ *testing.T, p string) any {
		return api.OrderAsk{Person: p, Act: statement.OrderClockAccept, Target: statement.TargetClock, Reason: "compared with two watches"}
	}},
	{"/v1/policy", func(_ *testing.T, p string) any {
		return api.PolicyAsk{Person: p, Policy: statement.Hash{1}, Previous: statement.Hash{2}, Changes: statement.Hash{3}}
	}},
	{"/v1/totp", func(_ *testing.T, p string) any {
		return api.TOTPAsk{Person: p, Act: statement.TOTPRemove, Device: "phone"}
	}},
	{"/v1/totp/seed", func(_ *testing.T, p string) any { return api.TOTPSeedAsk{Person: p, Device: "phone"} }},
}

// seenOf is all that an answer shows beside what is random in it.
type seenOf struct {
	status  int
	headers []string
	shape   string
	keys    int
}

var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// shape writes a JSON value with each text as its length.
func shape(v any) string {
	switch x := v.(type) {
	case map[string]any:
		var out []string
		for _, k := range slices.Sorted(maps.Keys(x)) {
			s := shape(x[k])
			if n, ok := x[k].(string); ok && k == "name" {
				s = n
			}
			out = append(out, k+":"+s)
		}
		return "{" + strings.Join(out, ",") + "}"
	case []any:
		var out []string
		for _, e := range x {
			out = append(out, shape(e))
		}
		return "[" + strings.Join(out, ",") + "]"
	case string:
		return strings.Repeat("x", len(x))
	}
	return "v"
}

// TestNobodyLearnsWhoIsKnown tells known people from unknown ones by everything that an unsigned ask is answered with, and can't.
func TestNobodyLearnsWhoIsKnown(t *testing.T) {
	c := catest.New(t, catest.Config{Limits: many})
	alice := c.Enrol("alice") // one key
	c.Enrol("carol")          // two
	second := c.Stranger("carol")
	if _, err := second.Spend(c.Token("carol"), "yubi-safe"); err != nil {
		t.Fatal(err)
	}
	_ = alice
	h := c.CA.Handler()
	ask := func(path string, body any) (seenOf, time.Duration) {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", path, bytes.NewReader(b))
		r.RemoteAddr = catest.Here
		w := httptest.NewRecorder()
		begin := time.Now()
		h.ServeHTTP(w, r)
		took := time.Since(begin)
		text, _ := io.ReadAll(w.Body)
		var v any
		if err := json.Unmarshal(times.ReplaceAll(text, []byte("2006-01-02T15:04:05Z")), &v); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, text)
		}
		s := seenOf{status: w.Code, shape: shape(v)}
		for k := range w.Header() {
			s.headers = append(s.headers, k)
		}
		slices.Sort(s.headers)
		if m, ok := v.(map[string]any); ok {
			keys, _ := m["keys"].([]any)
			s.keys = len(keys)
		}
		return s, took
	}
	for _, a := range asked {
		// By number of keys: alice has one, carol two, and unknown names of five letters have either.
		known, unknown := map[int]seenOf{}, map[int]seenOf{}
		spent := map[bool]time.Duration{}
		n := map[bool]int{}
		add := func(to map[int]seenOf, person string, isKnown bool) {
			s, took := ask(a.path, a.body(t, person))
			spent[isKnown] += took
			n[isKnown]++
			if old, ok := to[s.keys]; ok && (old.shape != s.shape || old.status != s.status || !slices.Equal(old.headers, s.headers)) {
				t.Errorf("%s: two answers about one kind of person differ:\n%+v\n%+v", a.path, old, s)
			}
			to[s.keys] = s
		}
		for range 10 {
			add(known, "alice", true)
			add(known, "carol", true)
		}
		for _, p := range []string{"mally", "trent", "peggy", "oscar", "wendy", "craig", "judy1", "frank", "heidi", "ivan1", "zelda", "niaj1", "rupe1", "sybil", "olive", "grace", "chuck", "erin1", "bob12", "dave1"} {
			add(unknown, p, false)
		}
		for keys, s := range known {
			u, ok := unknown[keys]
			if !ok {
				t.Errorf("%s: no unknown name shows %d keys", a.path, keys)
			} else if s.status != u.status || s.shape != u.shape || !slices.Equal(s.headers, u.headers) {
				t.Errorf("%s: known and unknown differ:\nknown   %+v\nunknown %+v", a.path, s, u)
			}
		}
		for keys := range unknown {
			if _, ok := known[keys]; !ok {
				t.Errorf("%s: only unknown names show %d keys", a.path, keys)
			}
		}
		t.Logf("%-16s known %v, unknown %v an answer", a.path, spent[true]/time.Duration(n[true]), spent[false]/time.Duration(n[false]))
	}
}
