// Package geo answers from which country (and which part of it) and which autonomous system an address comes, and whether it belongs to an
// anonymous network, out of MaxMind databases on disk. No network, and nothing that may be down: what can't be answered is unknown, and the
// policy decides what unknown means.
//
// # Promises
//
// Lookup never fails and never blocks. Whatever is wrong with a database, its answers become unknown or stay those of the last good file;
// they never become "no". Files are read into memory and never mapped: a mapped file that somebody truncates in place kills
// the process that looks into it (SIGBUS), and this one is the CA. So Reload and Poll may run under any number of lookups, each of which sees
// one set of whole databases, the old or the new, and the operator may replace the files in whatever way they like; a
// half-written one is refused.
//
// An address that a country database doesn't list, or lists without a country, is unknown. A database of anonymous
// networks lists nothing else, so an address that it doesn't list is not anonymous; an empty one is refused, and so is
// an IPv6 address's answer from a database of IPv4 only.
//
// How old a database may be is the policy's to say; this package tells when each was built (Status).
package geo

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"breakglass/policy"
)

// Kind is what a database answers.
type Kind string

const (
	Country   Kind = "country" // with its parts, where the database has them
	ASN       Kind = "asn"
	Anonymous Kind = "anonymous"
)

// kinds are all of them; a slot of anything that goes by kind is numbered as here.
var kinds = [...]Kind{Country, ASN, Anonymous}

const (
	slotCountry = iota
	slotASN
	slotAnonymous
	slots
)

// Config names the files. An empty path is a database that the site doesn't have: its answers are unknown.
type Config struct {
	Country   string // GeoIP2 or GeoLite2 Country, City or Enterprise; the latter two know subdivisions
	ASN       string // GeoLite2 ASN, or GeoIP2 ISP
	Anonymous string // GeoIP2 Anonymous-IP, or GeoIP Anonymous Plus
}

func (c Config) paths() [slots]string { return [slots]string{c.Country, c.ASN, c.Anonymous} }

// DB looks addresses up. It is safe for concurrent use.
type DB struct {
	paths   [slots]string
	current atomic.Pointer[databases]
	counts  [slots]struct{ lookups, misses, failures atomic.Uint64 }

	reload sync.Mutex // one Reload or Poll at a time; lookups don't take it
	tried  [slots]fs.FileInfo
	faults [slots]atomic.Pointer[fault]
}

// databases are the files of one moment; a nil one knows nothing.
type databases [slots]*database

type fault struct{ err error }

// New makes a DB that knows nothing until Reload has read the files.
func New(cfg Config) *DB {
	d := &DB{paths: cfg.paths()}
	d.current.Store(&databases{})
	return d
}

// Reload reads the files anew. Each is taken or refused by itself; a refused or missing one leaves the last good one
// in place. The error tells all that was refused; the caller reports it and goes on.
func (d *DB) Reload() error {
	_, err := d.read(func(int, fs.FileInfo) bool { return true })
	return err
}

// Poll is Reload of the files that have changed since they were last read, or tried. It looks at their names only (stat), so that it can be
// called often; what is wrong with a file is told once. taken are those that are in use from now on.
func (d *DB) Poll() (taken []Kind, err error) {
	return d.read(func(i int, info fs.FileInfo) bool {
		was := d.tried[i]
		if was == nil || info == nil {
			return was != nil || info != nil
		}
		return !os.SameFile(was, info) || !was.ModTime().Equal(info.ModTime()) || was.Size() != info.Size()
	})
}

func (d *DB) read(wanted func(int, fs.FileInfo) bool) (taken []Kind, err error) {
	d.reload.Lock()
	defer d.reload.Unlock()
	next := *d.current.Load()
	var errs []error
	for i, path := range d.paths {
		if path == "" {
			continue
		}
		info, err := os.Stat(path) // before it is read: what is written meanwhile is another file's time
		if err != nil {
			info = nil
		}
		if !wanted(i, info) {
			continue
		}
		d.tried[i] = info
		db, err := open(path, i)
		if err != nil {
			err = fmt.Errorf("geo database %s: %w", path, err)
			d.counts[i].failures.Add(1)
			d.faults[i].Store(&fault{err})
			errs = append(errs, err)
			continue
		}
		d.faults[i].Store(nil)
		next[i], taken = db, append(taken, kinds[i])
	}
	d.current.Store(&next)
	return taken, errors.Join(errs...)
}

// Lookup says what is known about an address, as the policy takes it.
func (d *DB) Lookup(addr netip.Addr) policy.Source {
	// A zone names an interface of somebody's machine; the mapped form is the IPv4 address itself.
	addr = addr.Unmap().WithZone("")
	s := policy.Source{Addr: addr}
	now := d.current.Load()
	if db := now[slotCountry]; db != nil {
		s.CountryBuilt = db.built
		s.Country, s.Subdivisions = db.country(addr)
	}
	if db := now[slotASN]; db != nil {
		s.ASNBuilt = db.built
		s.ASN = db.system(addr)
	}
	if db := now[slotAnonymous]; db != nil {
		s.AnonymousBuilt = db.built
		s.Anonymous = db.anonymous(addr)
	}
	for i, known := range [slots]bool{s.Country != "", s.ASN != 0, s.Anonymous != policy.Unknown} {
		if d.paths[i] == "" {
			continue
		}
		d.counts[i].lookups.Add(1)
		if !known {
			d.counts[i].misses.Add(1)
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

// Status is how one database of the Config does.
type Status struct {
	Kind     Kind      `json:"kind"`
	Path     string    `json:"path"`
	Type     string    `json:"type,omitempty"`  // as the file says: "GeoLite2-City"
	Built    time.Time `json:"built,omitzero"`  // of the one in use; zero: there is none
	Lookups  uint64    `json:"lookups"`         // addresses that were asked for
	Misses   uint64    `json:"misses"`          // of them without an answer
	Failures uint64    `json:"failures"`        // files that were refused
	Fault    string    `json:"fault,omitempty"` // why the file that is there now was
	Network6 bool      `json:"ipv6"`            // it knows IPv6
}

// Status tells of each database that the Config names.
func (d *DB) Status() []Status {
	now := d.current.Load()
	var out []Status
	for i, path := range d.paths {
		if path == "" {
			continue
		}
		s := Status{Kind: kinds[i], Path: path, Lookups: d.counts[i].lookups.Load(), Misses: d.counts[i].misses.Load(), Failures: d.counts[i].failures.Load()}
		if db := now[i]; db != nil {
			s.Type, s.Built, s.Network6 = db.kind, db.built, db.ipv6
		}
		if f := d.faults[i].Load(); f != nil {
			s.Fault = f.err.Error()
		}
		out = append(out, s)
	}
	return out
}
