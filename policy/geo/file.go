package geo

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"time"

	"github.com/oschwald/geoip2-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2"

	"breakglass/policy"
)

// maxDatabase bounds what Reload reads: the largest City database is below 200 MB, and two of them are in memory
// while one replaces the other.
const maxDatabase = 512 << 20

var (
	// ErrKind is what Reload's error wraps when a database is not of the kind that its place asks for.
	ErrKind = errors.New("wrong kind of database")
	// ErrEmpty is what Reload's error wraps when a database lists no network at all.
	ErrEmpty = errors.New("the database is empty")
	// ErrDamaged is what Reload's error wraps when a file is no whole database.
	ErrDamaged = errors.New("the database is damaged")
)

// database is one file, in memory.
type database struct {
	reader *geoip2.Reader
	kind   string
	plus   bool // Anonymous Plus, not Anonymous-IP
	ipv6   bool
	built  time.Time
}

func open(path string, slot int) (*database, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // a pipe would be waited for, and with it the CA's start and every later look
		return nil, errors.New("it is no regular file")
	}
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
	return parse(b, slot)
}

// probe is looked up once to learn the kind; what it is doesn't matter.
var probe = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// parse takes a database of the kind that the slot wants. The whole file is read through: a damaged one would answer some addresses and not
// others, and of a truncated one nobody would know until somebody stands outside.
func parse(b []byte, slot int) (*database, error) {
	reader, err := geoip2.OpenBytes(b)
	if errors.As(err, new(geoip2.UnknownDatabaseTypeError)) {
		return nil, fmt.Errorf("%w: %w", ErrKind, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	meta := reader.Metadata()
	db := &database{reader: reader, kind: meta.DatabaseType, built: meta.BuildTime(), ipv6: meta.IPVersion == 6}
	if err := db.probe(slot); errors.As(err, new(geoip2.InvalidMethodError)) {
		return nil, fmt.Errorf("%w: it is a %s", ErrKind, db.kind)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	// geoip2 shows neither the networks nor a check; the same bytes are opened a second time for both.
	raw, err := maxminddb.OpenBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	empty := true
	for result := range raw.Networks() {
		if err := result.Err(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		empty = false
		break
	}
	if empty {
		return nil, ErrEmpty
	}
	if err := raw.Verify(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return db, nil
}

// probe learns what the database knows; an InvalidMethodError is not what the slot asks for.
func (db *database) probe(slot int) error {
	switch slot {
	case slotCountry:
		_, err := db.reader.City(probe)
		return err
	case slotASN:
		_, err := db.reader.ASN(probe)
		return err
	}
	_, err := db.reader.AnonymousIP(probe)
	if errors.As(err, new(geoip2.InvalidMethodError)) {
		db.plus = true
		_, err = db.reader.AnonymousPlus(probe)
	}
	return err
}

// country is where the address is, not where its provider is registered.
func (db *database) country(addr netip.Addr) (string, []string) {
	if !addr.IsValid() {
		return "", nil
	}
	r, err := db.reader.City(addr) // of a Country database too: it has no parts then
	if err != nil || r.Country.ISOCode == "" {
		return "", nil
	}
	var parts []string
	for _, s := range r.Subdivisions {
		if s.ISOCode != "" {
			parts = append(parts, r.Country.ISOCode+"-"+s.ISOCode)
		}
	}
	return r.Country.ISOCode, parts
}

func (db *database) system(addr netip.Addr) uint32 {
	if !addr.IsValid() {
		return 0
	}
	r, err := db.reader.ASN(addr)
	if err != nil || r.AutonomousSystemNumber > math.MaxUint32 {
		return 0
	}
	return uint32(r.AutonomousSystemNumber)
}

// anonymous counts every kind, hosting too: a rented server is how one comes from a country of one's choice.
func (db *database) anonymous(addr netip.Addr) policy.Tri {
	if !addr.IsValid() {
		return policy.Unknown
	}
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
