// Package geo answers from which country an address comes and whether it belongs to an anonymous network, out of
// MaxMind databases on disk. No network, and nothing that may be down: what can't be answered is unknown, and the
// policy decides what unknown means.
//
// # Promises
//
// Lookup never fails and never blocks. Whatever is wrong with a database, its answers become unknown or stay those of the last good file;
// they never become "no". Files are read into memory and never mapped: a mapped file that somebody truncates in place kills
// the process that looks into it (SIGBUS), and this one is the CA. So Reload may run under any number of lookups, each of which sees
// one whole database, the old or the new, and the operator may replace the files in whatever way they like; a
// half-written one is refused.
//
// An address that a country database doesn't list, or lists without a country, is unknown. A database of anonymous
// networks lists nothing else, so an address that it doesn't list is not anonymous; an empty one is refused, and so is
// an IPv6 address's answer from a database of IPv4 only.
package geo

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"

	"breakglass/policy"
)

// maxDatabase bounds what Reload reads: the largest City database is below 200 MB, and two of them are in memory
// while one replaces the other.
const maxDatabase = 512 << 20

// ErrKind is what Reload's error wraps when a database is not of the kind that its place asks for.
var ErrKind = errors.New("wrong kind of database")

// ErrEmpty is what Reload's error wraps when a database lists no network at all.
var ErrEmpty = errors.New("the database is empty")

// Config names the files. An empty path is a database that the site doesn't have: its answers are unknown.
type Config struct {
	Country   string // GeoIP2 or GeoLite2 Country, City or Enterprise
	Anonymous string // GeoIP2 Anonymous-IP, or GeoIP Anonymous Plus
}

// DB looks addresses up. It is safe for concurrent use.
type DB struct {
	cfg     Config
	reload  sync.Mutex // one Reload at a time; lookups don't take it
	current atomic.Pointer[databases]
}

// databases are the files of one moment; a nil one knows nothing.
type databases struct {
	country, anonymous *database
}

type database struct {
	reader *geoip2.Reader
	plus   bool // Anonymous Plus, not Anonymous-IP
	built  time.Time
}

// New makes a DB that knows nothing until Reload has read the files.
func New(cfg Config) *DB {
	d := &DB{cfg: cfg}
	d.current.Store(&databases{})
	return d
}

// Reload reads the files anew. Each is taken or refused by itself; a refused or missing one leaves the last good one
// in place. The error tells all that was refused; the caller reports it and goes on.
func (d *DB) Reload() error {
	d.reload.Lock()
	defer d.reload.Unlock()
	next := *d.current.Load()
	var errs []error
	take := func(slot **database, path string, open func([]byte) (*database, error)) {
		if path == "" {
			return
		}
		db, err := read(path, open)
		if err != nil {
			errs = append(errs, fmt.Errorf("geo database %s: %w", path, err))
			return
		}
		*slot = db
	}
	take(&next.country, d.cfg.Country, openCountry)
	take(&next.anonymous, d.cfg.Anonymous, openAnonymous)
	d.current.Store(&next)
	return errors.Join(errs...)
}

// Lookup says what is known about an address, as the policy takes it.
func (d *DB) Lookup(addr netip.Addr) policy.Source {
	// A zone names an interface of somebody's machine; the mapped form is the IPv4 address itself.
	addr = addr.Unmap().WithZone("")
	s := policy.Source{Addr: addr}
	now := d.current.Load()
	if db := now.country; db != nil {
		s.CountryBuilt = db.built
		if addr.IsValid() {
			if c, err := db.reader.Country(addr); err == nil && c.HasData() {
				s.Country = c.Country.ISOCode // not RegisteredCountry: that is where the provider sits
			}
		}
	}
	if db := now.anonymous; db != nil {
		s.AnonymousBuilt = db.built
		if addr.IsValid() {
			s.Anonymous = db.isAnonymous(addr)
		}
	}
	return s
}

// Sources looks several addresses up.
func (d *DB) Sources(addrs ...netip.Addr) []policy.Source {
	out := make([]policy.Source, len(addrs))
	for i, a := range addrs {
		out[i] = d.Lookup(a)
	}
	return out
}

// Built tells when the databases in use were built; zero for one that isn't there.
func (d *DB) Built() (country, anonymous time.Time) {
	now := d.current.Load()
	if now.country != nil {
		country = now.country.built
	}
	if now.anonymous != nil {
		anonymous = now.anonymous.built
	}
	return country, anonymous
}

// isAnonymous counts every kind, hosting too: a rented server is how one comes from a country of one's choice.
func (db *database) isAnonymous(addr netip.Addr) policy.Tri {
	if db.plus {
		r, err := db.reader.AnonymousPlus(addr)
		if err != nil {
			return policy.Unknown
		}
		return policy.TriOf(r.IsAnonymous || r.IsAnonymousVPN || r.IsHostingProvider || r.IsPublicProxy || r.IsResidentialProxy || r.IsTorExitNode)
	}
	r, err := db.reader.AnonymousIP(addr)
	if err != nil {
		return policy.Unknown
	}
	return policy.TriOf(r.HasData())
}

func read(path string, open func([]byte) (*database, error)) (*database, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDatabase+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxDatabase {
		return nil, fmt.Errorf("longer than %d bytes", maxDatabase)
	}
	return open(b)
}

func openCountry(b []byte) (*database, error) {
	return openDatabase(b, func(db *database) error {
		_, err := db.reader.Country(probe)
		return err
	})
}

func openAnonymous(b []byte) (*database, error) {
	return openDatabase(b, func(db *database) error {
		_, err := db.reader.AnonymousIP(probe)
		if !errors.As(err, new(geoip2.InvalidMethodError)) {
			return err
		}
		db.plus = true
		_, err = db.reader.AnonymousPlus(probe)
		return err
	})
}

// probe is looked up once to learn the kind; what it is doesn't matter.
var probe = netip.AddrFrom4([4]byte{192, 0, 2, 1})

func openDatabase(b []byte, check func(*database) error) (*database, error) {
	reader, err := geoip2.OpenBytes(b)
	if errors.As(err, new(geoip2.UnknownDatabaseTypeError)) {
		return nil, fmt.Errorf("%w: %w", ErrKind, err)
	}
	if err != nil {
		return nil, err
	}
	db := &database{reader: reader, built: reader.Metadata().BuildTime()}
	if err := check(db); errors.As(err, new(geoip2.InvalidMethodError)) {
		return nil, fmt.Errorf("%w: it is a %s", ErrKind, reader.Metadata().DatabaseType)
	} else if err != nil {
		return nil, err
	}
	// geoip2 shows no network list; the file is opened a second time, over the same bytes, to see that there is one.
	raw, err := maxminddb.OpenBytes(b)
	if err != nil {
		return nil, err
	}
	for result := range raw.Networks() {
		return db, result.Err()
	}
	return nil, ErrEmpty
}
