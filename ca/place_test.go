package ca_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/loopback"
	"breakglass/ledger"
	"breakglass/policy/geo/geotest"
)

// placeScene is a CA whose policy asks the databases about 127.0.0.1.
type placeScene struct {
	*catest.CA
	t         *testing.T
	city, asn string
}

func newPlaceScene(t *testing.T, always, rule string) *placeScene {
	dir := t.TempDir()
	s := &placeScene{t: t, city: filepath.Join(dir, "city.mmdb"), asn: filepath.Join(dir, "asn.mmdb")}
	s.is("DE BE", 64500)
	text := strings.Replace(catest.Policy, `trusted = ["here"]`, always, 1)
	text = strings.Replace(text, `forwards = ["local db01:5432"]`, rule, 1)
	s.CA = catest.New(t, catest.Config{Policy: text, Geo: ca.FileGeo{Country: s.city, ASN: s.asn}})
	return s
}

// is replaces the databases.
func (s *placeScene) is(place string, asn uint32) {
	s.t.Helper()
	built := time.Now().Add(-time.Hour)
	catest.Must(s.t, geotest.City(s.city, built, map[string]string{"127.0.0.0/8": place}))
	catest.Must(s.t, geotest.ASN(s.asn, built, map[string]uint32{"127.0.0.0/8": asn}))
}

func (s *placeScene) moves(place string, asn uint32) {
	s.t.Helper()
	s.is(place, asn)
	if _, err := s.Reload(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

// people enrols alice and bob, who can read recordings, and joins a jump.
func (s *placeScene) people() (alice, bob *catest.Person, jump *catest.Jump) {
	s.t.Helper()
	alice, bob = s.Enrol("alice"), s.Enrol("bob")
	_, err := bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(s.t, err)
	return alice, bob, s.Join("jump-a")
}

// TestPlaceIsAskedTwice: what the databases say counts when a grant is asked for, and again when a session opens under it.
func TestPlaceIsAskedTwice(t *testing.T) {
	for _, c := range []struct {
		what, always, rule string
		place              string
		asn                uint32
		code               string
	}{
		{"a denied system, for everybody", "deny_asns = [64666]", "", "DE BE", 64666, "asn_denied"},
		{"a denied system, by the rule", "", "deny_asns = [64666]", "DE BE", 64666, "asn_denied"},
		{"a system that is not listed", "asns = [64500]", "", "DE BE", 64501, "asn_denied"},
		{"another part of the country, for everybody", `subdivisions = ["DE-BE"]`, "", "DE HH", 64500, "subdivision_denied"},
		{"another part of the country, by the rule", "", `subdivisions = ["DE-BE"]`, "DE HH", 64500, "subdivision_denied"},
		{"a denied country", `deny_countries = ["KP"]`, "", "KP", 64500, "country_denied"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newPlaceScene(t, c.always, c.rule)
			alice, _, jump := s.people()
			g, err := alice.Request("root", "web01")
			catest.Must(t, err)
			_, err = jump.Open(jump.Question(g))
			catest.Must(t, err)
			allowed, _ := lastOf[*ledger.GrantAllowed](t, s.CA)
			if a := allowed.Used.Addresses[0]; a.Subdivision != "DE-BE" || a.ASN != 64500 || a.Country != "DE" {
				t.Errorf("the entry says of the address: %+v", a)
			}

			s.moves(c.place, c.asn)
			_, err = jump.Open(jump.Question(g))
			if p := problem(t, err); p.Code != api.CodeSession || p.Reasons[0].Code != c.code {
				t.Errorf("the session: %s %v", p.Code, p.Reasons)
			}
			refused, _ := lastOf[*ledger.SessionRefused](t, s.CA)
			if a := refused.Used.Addresses[0]; refused.Reasons[0].Code != c.code || a.ASN != c.asn {
				t.Errorf("the session's entry: %+v", refused)
			}
			_, err = alice.Request("root", "web01")
			p := problem(t, err)
			if !slices.ContainsFunc(p.Reasons, func(r ledger.Reason) bool { return r.Code == c.code }) {
				t.Errorf("the request: %s %v", p.Code, p.Reasons)
			}

			s.moves("DE BE", 64500)
			_, err = jump.Open(jump.Question(g))
			catest.Must(t, err)
			s.Audit()
		})
	}
}

// TestUnknownPlaceAsksAPerson: with geo_unknown = "ask" a request from a place that the databases don't know waits for one approval, and
// the session under it is let in by the same.
func TestUnknownPlaceAsksAPerson(t *testing.T) {
	s := newPlaceScene(t, "geo_unknown = \"ask\"\ndeny_asns = [64666]\napprovers = [\"bob\"]", "")
	alice, bob, jump := s.people()
	known, err := alice.Request("root", "web01")
	catest.Must(t, err)
	// From now on the database knows another network only.
	catest.Must(t, geotest.ASN(s.asn, time.Now().Add(-time.Hour), map[string]uint32{"192.0.2.0/24": 64500}))
	if _, err := s.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, err = jump.Open(jump.Question(known))
	if p := problem(t, err); p.Code != api.CodeSession {
		t.Errorf("a session that nobody was asked about: %s", p.Code)
	}
	asked, err := alice.Ask("root", "web01", nil)
	catest.Must(t, err)
	opened, _ := lastOf[*ledger.RequestOpened](t, s.CA)
	if opened.Waits == nil || !slices.Equal(opened.Waits.Used.Added, []string{"place_unknown"}) {
		t.Fatalf("the request: %+v", opened)
	}
	_, err = bob.Verdict(asked, "approve", nil)
	catest.Must(t, err)
	g, err := asked.Grant()
	catest.Must(t, err)
	_, err = jump.Open(jump.Question(g))
	catest.Must(t, err)
	s.moves("DE BE", 64666)
	_, err = jump.Open(jump.Question(g))
	if p := problem(t, err); p.Reasons[0].Code != "asn_denied" {
		t.Errorf("a place that is known and bad: %v", p.Reasons)
	}
	s.Audit()
}

// TestMetrics: the figures are those of the ledger and the databases, on loopback only.
func TestMetrics(t *testing.T) {
	s := newPlaceScene(t, "deny_asns = [64666]", "")
	free, err := loopback.Addresses(1)
	catest.Must(t, err)
	s.Stop()
	configure := func(section string) {
		path := filepath.Join(s.Dir, "config.toml")
		b, err := os.ReadFile(path)
		catest.Must(t, err)
		before, rest, ok := strings.Cut(string(b), "[metrics]\n")
		if !ok {
			t.Fatalf("no [metrics] in\n%s", b)
		}
		_, after, _ := strings.Cut(rest, "\n[")
		catest.Must(t, os.WriteFile(path, []byte(before+"[metrics]\n"+section+"\n["+after), 0o600))
	}
	for listen, fine := range map[string]bool{
		`listen = "192.0.2.1:9464"`: false, `listen = "0.0.0.0:9464"`: false, `listen = "[::]:9464"`: false, `listen = "localhost:9464"`: false, `listen = ":9464"`: false,
		"listen = \"192.0.2.1:9464\"\nbeyond_loopback = true": true, `listen = "[::1]:9464"`: true, `listen = ""`: true,
	} {
		configure(listen)
		c, err := ca.Open(ca.Config{Dir: s.Dir, Credentials: filepath.Join(filepath.Dir(s.Dir), "credentials")})
		if err == nil {
			c.Close()
		}
		if fine != (err == nil) {
			t.Errorf("%s: %v", listen, err)
		}
	}
	configure(fmt.Sprintf("listen = %q", free[0]))
	s.Start()

	read := func() string {
		t.Helper()
		var last error
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			r, err := http.Get("http://" + free[0] + "/metrics")
			if last = err; err != nil {
				continue // it begins to listen beside the service
			}
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			catest.Must(t, err)
			if r.StatusCode != 200 {
				t.Fatalf("%s: %s", r.Status, b)
			}
			return string(b)
		}
		t.Fatal(last)
		return ""
	}
	has := func(when, text string, lines ...string) {
		t.Helper()
		for _, l := range lines {
			if !strings.Contains(text, "\n"+l+"\n") {
				t.Errorf("%s: no %s in\n%s", when, l, text)
			}
		}
	}
	before := read()
	has("at the start", before, `breakglass_geo_usable{database="asn"} 1`, `breakglass_geo_usable{database="country"} 1`, `breakglass_geo_reload_failures_total{database="asn"} 0`)
	if strings.Contains(before, "breakglass_decisions_total{") {
		t.Errorf("before any decision:\n%s", before)
	}
	alice, _, jump := s.people()
	g, err := alice.Request("root", "web01")
	catest.Must(t, err)
	_, err = jump.Open(jump.Question(g))
	catest.Must(t, err)
	_, err = alice.Ask("root", "db01", nil)
	catest.Must(t, err)
	if _, err := alice.Ask("postgres", "db01", nil); err == nil {
		t.Error("a login that no rule has")
	}
	s.moves("DE BE", 64666)
	if _, err := jump.Open(jump.Question(g)); err == nil {
		t.Error("a session from a denied system")
	}
	catest.Must(t, os.WriteFile(s.asn, []byte("half a file"), 0o600))
	if _, err := s.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	text := read()
	has("after all", text, `breakglass_decisions_total{of="request",outcome="allow",reason=""} 1`, `breakglass_decisions_total{of="request",outcome="ask",reason=""} 1`,
		`breakglass_decisions_total{of="request",outcome="deny",reason="login_not_allowed"} 1`, `breakglass_decisions_total{of="session",outcome="allow",reason=""} 1`,
		`breakglass_decisions_total{of="session",outcome="deny",reason="asn_denied"} 1`, `breakglass_certificates_total{kind="client"} 1`, `breakglass_certificates_total{kind="session"} 1`,
		`breakglass_geo_reload_failures_total{database="asn"} 1`, `breakglass_geo_usable{database="asn"} 1`, `breakglass_policy_reloads_total{result="in force"} 2`)
	if again := read(); strings.Count(again, "\nbreakglass_decisions_total{") != 5 || !strings.Contains(again, `breakglass_decisions_total{of="request",outcome="allow",reason=""} 1`) {
		t.Errorf("read again:\n%s", again)
	}
	for _, secret := range []string{"alice", "web01", "db01", "127.0.0.1", s.Dir, filepath.Base(s.asn)} {
		if strings.Contains(text, secret) {
			t.Errorf("the figures name %s", secret)
		}
	}
	if r, err := http.Get("http://" + free[0] + "/"); err != nil || r.StatusCode != 404 {
		t.Errorf("another page: %v %v", r, err)
	} else {
		r.Body.Close()
	}
	st, err := s.Status(context.Background())
	catest.Must(t, err)
	if len(st.Geo) != 2 || st.Geo[1].Fault == "" || st.Geo[1].Built.IsZero() || st.Geo[1].Limit != 45*24*time.Hour || st.Geo[1].Age < time.Hour || st.Geo[1].Old() {
		t.Errorf("status: %+v", st.Geo)
	}
}
