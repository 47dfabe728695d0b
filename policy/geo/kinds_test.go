package geo_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter/mmdbtype"

	"breakglass/policy"
	"breakglass/policy/geo"
	"breakglass/policy/geo/geotest"
)

func lookup(db *geo.DB, addr string) policy.Source { return db.Lookup(netip.MustParseAddr(addr)) }

// TestCity: a City database gives the parts of a country, widest first; a Country database gives none.
func TestCity(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "city.mmdb")
	db := geo.New(geo.Config{Country: path})
	write(t, geotest.City(path, built, map[string]string{"203.0.113.0/25": "GB ENG LND", "203.0.113.128/25": "FR", "2001:db8::/32": "DE BE"}))
	write(t, db.Reload())
	for addr, want := range map[string][]string{"203.0.113.9": {"GB-ENG", "GB-LND"}, "::ffff:203.0.113.9": {"GB-ENG", "GB-LND"}, "203.0.113.200": nil, "2001:db8::1": {"DE-BE"}, "192.0.2.1": nil} {
		if s := lookup(db, addr); !slices.Equal(s.Subdivisions, want) {
			t.Errorf("%s is in %v, want %v", addr, s.Subdivisions, want)
		}
	}
	write(t, geotest.Country(path, built, map[string]string{"203.0.113.0/24": "GB"}))
	write(t, db.Reload())
	if s := lookup(db, "203.0.113.9"); s.Country != "GB" || s.Subdivisions != nil {
		t.Errorf("a Country database says %+v", s)
	}
	// Parts without a country are parts of nothing.
	write(t, geotest.Write(path, "GeoIP2-City", built, map[string]mmdbtype.DataType{"203.0.113.0/24": mmdbtype.Map{"subdivisions": mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("ENG")}}}}))
	write(t, db.Reload())
	if s := lookup(db, "203.0.113.9"); s.Country != "" || s.Subdivisions != nil {
		t.Errorf("without a country: %+v", s)
	}
}

func TestASN(t *testing.T) {
	path := filepath.Join(t.TempDir(), "asn.mmdb")
	db := geo.New(geo.Config{ASN: path})
	if s := lookup(db, "203.0.113.9"); s.ASN != 0 || !s.ASNBuilt.IsZero() {
		t.Errorf("before the first Reload: %+v", s)
	}
	write(t, geotest.ASN(path, built, map[string]uint32{"203.0.113.0/24": 64500, "2001:db8::/32": 4294967295}))
	write(t, db.Reload())
	for addr, want := range map[string]uint32{"203.0.113.9": 64500, "::ffff:203.0.113.9": 64500, "2001:db8::7": 4294967295, "192.0.2.1": 0} {
		if s := lookup(db, addr); s.ASN != want || !s.ASNBuilt.Equal(built) || s.Country != "" || s.Anonymous != policy.Unknown {
			t.Errorf("%s: %+v, want AS%d", addr, s, want)
		}
	}
	write(t, geotest.Write(path, "GeoIP2-ISP", built, map[string]mmdbtype.DataType{"203.0.113.0/24": mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64501), "isp": mmdbtype.String("Example")}}))
	write(t, db.Reload())
	if s := lookup(db, "203.0.113.9"); s.ASN != 64501 {
		t.Errorf("an ISP database says %+v", s)
	}
}

// TestAnonymousPlus: of Anonymous Plus only the flags count; that it has a record of an address says nothing by itself.
func TestAnonymousPlus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plus.mmdb")
	db := geo.New(geo.Config{Anonymous: path})
	record := func(flag string) mmdbtype.Map {
		m := mmdbtype.Map{"anonymizer_confidence": mmdbtype.Uint16(30), "provider_name": mmdbtype.String("Example VPN"), "network_last_seen": mmdbtype.String("2026-01-09")}
		if flag != "" {
			m[mmdbtype.String(flag)] = mmdbtype.Bool(true)
		}
		return m
	}
	flags := []string{"", "is_anonymous", "is_anonymous_vpn", "is_hosting_provider", "is_public_proxy", "is_residential_proxy", "is_tor_exit_node"}
	records := map[string]mmdbtype.DataType{}
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}) }
	for i, f := range flags {
		records[at(i).String()+"/32"] = record(f)
	}
	write(t, geotest.Write(path, "GeoIP-Anonymous-Plus", built, records))
	write(t, db.Reload())
	for i, f := range flags {
		if s := db.Lookup(at(i)); s.Anonymous != policy.TriOf(f != "") {
			t.Errorf("%q: %v", f, s.Anonymous)
		}
	}
	if s := lookup(db, "192.0.2.1"); s.Anonymous != policy.No {
		t.Errorf("an address that isn't listed: %v", s.Anonymous)
	}
	if st := db.Status(); len(st) != 1 || st[0].Type != "GeoIP-Anonymous-Plus" || !st[0].Network6 {
		t.Errorf("status %+v", st)
	}
}

// makers writes a good database of each kind, of that build time and with answers that tell it from the other.
var makers = map[geo.Kind]func(path string, at time.Time, other bool) error{
	geo.Country: func(path string, at time.Time, other bool) error {
		if other {
			return geotest.City(path, at, map[string]string{"203.0.113.0/24": "NL NH", "2001:db8::/32": "NL NH", "192.0.2.0/24": "NL"})
		}
		return geotest.City(path, at, map[string]string{"203.0.113.0/24": "DE BE", "2001:db8::/32": "DE BE"})
	},
	geo.ASN: func(path string, at time.Time, other bool) error {
		if other {
			return geotest.ASN(path, at, map[string]uint32{"203.0.113.0/24": 64501, "2001:db8::/32": 64501, "192.0.2.0/24": 64502})
		}
		return geotest.ASN(path, at, map[string]uint32{"203.0.113.0/24": 64500, "2001:db8::/32": 64500})
	},
	geo.Anonymous: func(path string, at time.Time, other bool) error {
		if other {
			return geotest.Write(path, "GeoIP-Anonymous-Plus", at, map[string]mmdbtype.DataType{"192.0.2.0/24": mmdbtype.Map{"is_anonymous": mmdbtype.Bool(true)}})
		}
		return geotest.Anonymous(path, at, map[string]string{"203.0.113.0/24": "is_anonymous", "2001:db8::/32": "is_anonymous"})
	},
}

func config(kind geo.Kind, path string) geo.Config {
	switch kind {
	case geo.Country:
		return geo.Config{Country: path}
	case geo.ASN:
		return geo.Config{ASN: path}
	}
	return geo.Config{Anonymous: path}
}

// TestEveryBadFile: each way in which a file can be bad, for each kind: it is refused and said why, before any other there is no answer, and
// after a good one the good one's goes on.
func TestEveryBadFile(t *testing.T) {
	empty := map[geo.Kind]string{geo.Country: "GeoLite2-City", geo.ASN: "GeoLite2-ASN", geo.Anonymous: "GeoIP2-Anonymous-IP"}
	other := map[geo.Kind]geo.Kind{geo.Country: geo.ASN, geo.ASN: geo.Anonymous, geo.Anonymous: geo.Country}
	for kind, good := range makers {
		dir := t.TempDir()
		path := filepath.Join(dir, "db.mmdb")
		write(t, good(path, built, false))
		whole, err := os.ReadFile(path)
		write(t, err)
		put := func(b []byte) func() error { return func() error { return os.WriteFile(path, b, 0o600) } }
		cut := func(n int) []byte { return whole[:len(whole)*n/8] }
		damaged := slices.Clone(whole)
		for i := 0; i < 120; i++ { // the tree points anywhere
			damaged[i] = 0xa5
		}
		for _, c := range []struct {
			what string
			bad  func() error
			want error
		}{
			{"missing", func() error { return os.Remove(path) }, fs.ErrNotExist},
			{"of no bytes", put(nil), geo.ErrDamaged},
			{"no database", put([]byte("profile = \"demo\"\n")), geo.ErrDamaged},
			{"cut in eighths: 1", put(cut(1)), geo.ErrDamaged},
			{"cut in eighths: 3", put(cut(3)), geo.ErrDamaged},
			{"cut in eighths: 5", put(cut(5)), geo.ErrDamaged},
			{"cut in eighths: 7", put(cut(7)), geo.ErrDamaged},
			{"a byte short", put(whole[:len(whole)-1]), geo.ErrDamaged},
			{"damaged", put(damaged), geo.ErrDamaged},
			{"of another kind", func() error { return makers[other[kind]](path, built, false) }, geo.ErrKind},
			{"of no kind that is known", func() error {
				return geotest.Write(path, "Our-Own", built, map[string]mmdbtype.DataType{"203.0.113.0/24": mmdbtype.Map{}})
			}, geo.ErrKind},
			{"empty", func() error { return geotest.Write(path, empty[kind], built, nil) }, geo.ErrEmpty},
		} {
			if err := c.bad(); err != nil {
				t.Fatal(err)
			}
			db := geo.New(config(kind, path))
			if err := db.Reload(); !errors.Is(err, c.want) {
				t.Errorf("%s database, %s: %v, want %v", kind, c.what, err, c.want)
			}
			for _, a := range []string{"203.0.113.9", "2001:db8::1", "192.0.2.1"} {
				if s := lookup(db, a); s.Country != "" || s.ASN != 0 || s.Anonymous != policy.Unknown || !s.CountryBuilt.IsZero() || !s.ASNBuilt.IsZero() || !s.AnonymousBuilt.IsZero() {
					t.Errorf("%s database, %s, answers %+v", kind, c.what, s)
				}
			}
			if st := db.Status()[0]; st.Failures != 1 || st.Fault == "" || st.Lookups != 3 || st.Misses != 3 || !st.Built.IsZero() {
				t.Errorf("%s database, %s: status %+v", kind, c.what, st)
			}

			write(t, good(path, built, false))
			write(t, db.Reload())
			before := lookup(db, "203.0.113.9")
			if st := db.Status()[0]; st.Fault != "" || !st.Built.Equal(built) {
				t.Errorf("%s database, good again: status %+v", kind, st)
			}
			write(t, c.bad())
			if taken, err := db.Poll(); len(taken) > 0 || !errors.Is(err, c.want) {
				t.Errorf("%s database, %s after a good one: took %v, %v", kind, c.what, taken, err)
			}
			if taken, err := db.Poll(); len(taken) > 0 || err != nil {
				t.Errorf("%s database, %s, is told twice: %v, %v", kind, c.what, taken, err)
			}
			if s := lookup(db, "203.0.113.9"); s.Country != before.Country || s.ASN != before.ASN || s.Anonymous != before.Anonymous {
				t.Errorf("%s database, %s after a good one: %+v, was %+v", kind, c.what, s, before)
			}
			write(t, good(path, built.AddDate(0, 0, 1), false))
			if taken, err := db.Poll(); !slices.Equal(taken, []geo.Kind{kind}) || err != nil {
				t.Errorf("%s database, good again: took %v, %v", kind, taken, err)
			}
			if st := db.Status()[0]; !st.Built.Equal(built.AddDate(0, 0, 1)) {
				t.Errorf("%s database, the day after: %v", kind, st.Built)
			}
		}
	}
}

// TestAge: a database of 60 days ago loads and answers; that its good answers are none any more is the policy's word.
func TestAge(t *testing.T) {
	dir := t.TempDir()
	cfg := geo.Config{Country: filepath.Join(dir, "c"), ASN: filepath.Join(dir, "a"), Anonymous: filepath.Join(dir, "n")}
	now := built.AddDate(0, 0, 60)
	p, err := policy.Load("p.toml", []byte(agePolicy))
	write(t, err)
	for _, c := range []struct {
		built time.Time
		want  []policy.Code
	}{
		{now.AddDate(0, 0, -1), nil},
		{now.AddDate(0, 0, -30), nil},
		{built, []policy.Code{policy.CountryUnknown, policy.SubdivisionUnknown, policy.ASNUnknown, policy.AnonymousUnknown}},
		{now.AddDate(0, 0, 3), []policy.Code{policy.CountryUnknown, policy.SubdivisionUnknown, policy.ASNUnknown, policy.AnonymousUnknown}},
	} {
		write(t, makers[geo.Country](cfg.Country, c.built, false))
		write(t, makers[geo.ASN](cfg.ASN, c.built, false))
		write(t, makers[geo.Anonymous](cfg.Anonymous, c.built, true))
		db := geo.New(cfg)
		write(t, db.Reload())
		var got []policy.Code
		for _, r := range policy.PreCheck(p, policy.Facts{Now: now, Sources: []policy.Source{lookup(db, "203.0.113.9")}}) {
			got = append(got, r.Code)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("built on %s, on %s: %v, want %v", c.built.Format(time.DateOnly), now.Format(time.DateOnly), got, c.want)
		}
	}
}

const agePolicy = `profile = "demo"
[site]
name = "t"
owners = ["alice"]
operators = ["alice"]
readers = ["alice"]
[people.alice]
[always]
countries = ["DE"]
subdivisions = ["DE-BE"]
deny_asns = [64666]
[hosts.web01]
address = ["10.0.0.1:22"]
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt/hc1p+UaYXzM+kRk6MxNFL6+TNyilBfU67tbDOO"]
[[rule]]
name = "all"
why = "all"
who = ["alice"]
hosts = ["web01"]
logins = ["root"]
minutes = 5
`
