package geo_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter/mmdbtype"

	"breakglass/policy"
	"breakglass/policy/geo"
	"breakglass/policy/geo/geotest"
)

var built = time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)

func write(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	country, anonymous := filepath.Join(dir, "country.mmdb"), filepath.Join(dir, "anonymous.mmdb")
	write(t, geotest.Write(country, "GeoLite2-City", built, map[string]mmdbtype.DataType{
		"203.0.113.0/25":    mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("DE")}, "city": mmdbtype.Map{"geoname_id": mmdbtype.Uint32(1)}},
		"2001:db8:1::/48":   mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("NL")}},
		"203.0.113.200/32":  mmdbtype.Map{"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("FR")}},
		"198.51.100.128/25": mmdbtype.Map{},
	}))
	write(t, geotest.Anonymous(anonymous, built, map[string]string{
		"203.0.113.1/32": "is_tor_exit_node", "203.0.113.2/32": "is_hosting_provider", "203.0.113.3/32": "is_anonymous",
		"203.0.113.4/32": "is_residential_proxy", "203.0.113.5/32": "is_public_proxy", "203.0.113.6/32": "is_anonymous_vpn",
	}))
	db := geo.New(geo.Config{Country: country, Anonymous: anonymous})
	if s := db.Lookup(netip.MustParseAddr("203.0.113.9")); s.Country != "" || s.Anonymous != policy.Unknown || !s.CountryBuilt.IsZero() {
		t.Errorf("before the first Reload: %+v", s)
	}
	write(t, db.Reload())
	for _, c := range []struct {
		what, addr, country string
		anonymous           policy.Tri
	}{
		{"a listed address has its country", "203.0.113.9", "DE", policy.No},
		{"its mapped form has the same", "::ffff:203.0.113.9", "DE", policy.No},
		{"IPv6 is looked up too", "2001:db8:1::7", "NL", policy.No},
		{"a zone does not matter", "2001:db8:1::7%eth0", "NL", policy.No},
		{"an address outside the database is unknown", "192.0.2.7", "", policy.No},
		{"where the provider is registered is no country", "203.0.113.200", "", policy.No},
		{"an empty record is unknown", "198.51.100.200", "", policy.No},
		{"Tor is anonymous", "203.0.113.1", "DE", policy.Yes},
		{"hosting is anonymous", "203.0.113.2", "DE", policy.Yes},
		{"anonymous of no kind is anonymous", "203.0.113.3", "DE", policy.Yes},
		{"a residential proxy is anonymous", "203.0.113.4", "DE", policy.Yes},
		{"a public proxy is anonymous", "203.0.113.5", "DE", policy.Yes},
		{"a VPN is anonymous, mapped too", "::ffff:203.0.113.6", "DE", policy.Yes},
	} {
		s := db.Lookup(netip.MustParseAddr(c.addr))
		if s.Country != c.country || s.Anonymous != c.anonymous || !s.CountryBuilt.Equal(built) || !s.AnonymousBuilt.Equal(built) {
			t.Errorf("%s: %+v", c.what, s)
		}
		if s.Addr.Is4In6() || s.Addr.Zone() != "" {
			t.Errorf("%s: address not normalised: %v", c.what, s.Addr)
		}
	}
	if s := db.Sources(netip.Addr{}); s[0].Country != "" || s[0].Anonymous != policy.Unknown {
		t.Errorf("no address: %+v", s)
	}
}

// TestBadFiles: what is wrong with a file is told, and the answers are unknown or those of the last good file.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	good, goodAnon := filepath.Join(dir, "good.mmdb"), filepath.Join(dir, "anon.mmdb")
	write(t, geotest.Country(good, built, map[string]string{"203.0.113.0/24": "DE"}))
	write(t, geotest.Anonymous(goodAnon, built, map[string]string{"203.0.113.1/32": "is_anonymous"}))
	whole, err := os.ReadFile(good)
	write(t, err)
	empty, emptyAnon, foreign := filepath.Join(dir, "empty.mmdb"), filepath.Join(dir, "emptyanon.mmdb"), filepath.Join(dir, "foreign.mmdb")
	write(t, geotest.Country(empty, built, nil))
	write(t, geotest.Anonymous(emptyAnon, built, nil))
	write(t, geotest.Write(foreign, "Our-Own", built, map[string]mmdbtype.DataType{"203.0.113.0/24": mmdbtype.Map{}}))
	truncated := filepath.Join(dir, "truncated.mmdb")
	write(t, os.WriteFile(truncated, whole[:len(whole)/2], 0o600))

	for _, c := range []struct {
		what string
		cfg  geo.Config
		want error // nil: any
	}{
		{"a missing file", geo.Config{Country: filepath.Join(dir, "none")}, fs.ErrNotExist},
		{"a database of anonymous networks for countries", geo.Config{Country: goodAnon}, geo.ErrKind},
		{"a country database for anonymous networks", geo.Config{Anonymous: good}, geo.ErrKind},
		{"a database of a foreign kind", geo.Config{Country: foreign}, geo.ErrKind},
		{"an empty country database", geo.Config{Country: empty}, geo.ErrEmpty},
		{"an empty database of anonymous networks", geo.Config{Anonymous: emptyAnon}, geo.ErrEmpty},
		{"half a file", geo.Config{Country: truncated}, nil},
		{"a directory", geo.Config{Country: dir}, nil},
	} {
		db := geo.New(c.cfg)
		err := db.Reload()
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.what, err, c.want)
		}
		if s := db.Lookup(netip.MustParseAddr("203.0.113.9")); s.Country != "" || s.Anonymous != policy.Unknown {
			t.Errorf("%s answers %+v", c.what, s)
		}
	}

	// One bad file does not take the other down, and a file that goes bad keeps its last good answers.
	db := geo.New(geo.Config{Country: good, Anonymous: filepath.Join(dir, "none")})
	if db.Reload() == nil {
		t.Error("the missing file was not told")
	}
	write(t, os.WriteFile(good, whole[:len(whole)/2], 0o600)) // truncated in place, under the open DB
	if db.Reload() == nil {
		t.Error("the damaged file was not told")
	}
	if s := db.Lookup(netip.MustParseAddr("203.0.113.9")); s.Country != "DE" || s.Anonymous != policy.Unknown {
		t.Errorf("after the damage: %+v", s)
	}
	for _, st := range db.Status() {
		if want := map[geo.Kind]time.Time{geo.Country: built}[st.Kind]; !st.Built.Equal(want) || st.Fault == "" || st.Failures == 0 {
			t.Errorf("after the damage: %+v", st)
		}
	}
}

// TestIPv4Only: a database without IPv6 says nothing about IPv6, not even "no".
func TestIPv4Only(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anon.mmdb")
	write(t, geotest.WriteIPv4(path, "GeoIP2-Anonymous-IP", built, map[string]mmdbtype.DataType{"203.0.113.1/32": mmdbtype.Map{"is_anonymous": mmdbtype.Bool(true)}}))
	db := geo.New(geo.Config{Anonymous: path})
	write(t, db.Reload())
	if s := db.Lookup(netip.MustParseAddr("2001:db8::1")); s.Anonymous != policy.Unknown {
		t.Errorf("IPv6: %v", s.Anonymous)
	}
	if s := db.Lookup(netip.MustParseAddr("203.0.113.2")); s.Anonymous != policy.No {
		t.Errorf("IPv4: %v", s.Anonymous)
	}
}
