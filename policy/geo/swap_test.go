package geo_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"breakglass/policy/geo"
)

// swaps is how often each database is replaced under the lookups.
const swaps = 30

// TestSwap: while every database is replaced again and again, each of two families' lookups gets an answer that is wholly of one file, and of
// each kind never one that none of the files holds.
func TestSwap(t *testing.T) {
	dir := t.TempDir()
	cfg := geo.Config{Country: filepath.Join(dir, "city.mmdb"), ASN: filepath.Join(dir, "asn.mmdb"), Anonymous: filepath.Join(dir, "anon.mmdb")}
	paths := map[geo.Kind]string{geo.Country: cfg.Country, geo.ASN: cfg.ASN, geo.Anonymous: cfg.Anonymous}
	later := built.Add(24 * time.Hour)
	for kind, path := range paths {
		write(t, makers[kind](path, built, false))
	}
	db := geo.New(cfg)
	write(t, db.Reload())
	addrs := []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("::ffff:203.0.113.9"), netip.MustParseAddr("192.0.2.9")}
	// What the old and the new files say, asked before.
	old := db.Sources(addrs...)
	for kind, path := range paths {
		write(t, makers[kind](path, later, true))
	}
	write(t, db.Reload())
	next := db.Sources(addrs...)
	for i := range addrs {
		if old[i].CountryBuilt.Equal(next[i].CountryBuilt) || old[i].Country == next[i].Country || old[i].ASN == next[i].ASN || old[i].Anonymous == next[i].Anonymous {
			t.Fatalf("the two files don't differ at %s: %+v and %+v", addrs[i], old[i], next[i])
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var lookups, ofOld, ofNew atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for n := g; ctx.Err() == nil; n++ {
				i := n % len(addrs)
				s := db.Lookup(addrs[i])
				lookups.Add(1)
				countryOld := s.Country == old[i].Country && reflect.DeepEqual(s.Subdivisions, old[i].Subdivisions) && s.CountryBuilt.Equal(old[i].CountryBuilt)
				countryNew := s.Country == next[i].Country && reflect.DeepEqual(s.Subdivisions, next[i].Subdivisions) && s.CountryBuilt.Equal(next[i].CountryBuilt)
				asn := s.ASN == old[i].ASN && s.ASNBuilt.Equal(old[i].ASNBuilt) || s.ASN == next[i].ASN && s.ASNBuilt.Equal(next[i].ASNBuilt)
				anon := s.Anonymous == old[i].Anonymous && s.AnonymousBuilt.Equal(old[i].AnonymousBuilt) || s.Anonymous == next[i].Anonymous && s.AnonymousBuilt.Equal(next[i].AnonymousBuilt)
				if !countryOld && !countryNew || !asn || !anon || s.Addr != addrs[i].Unmap() {
					t.Errorf("a mixed or lost answer for %s: %+v", addrs[i], s)
					return
				}
				if countryOld {
					ofOld.Add(1)
				} else {
					ofNew.Add(1)
				}
			}
		})
	}
	for n := range swaps {
		at, other := built, n%2 == 1
		if other {
			at = later
		}
		for kind, path := range paths {
			write(t, makers[kind](path, at, other))
			taken, err := db.Poll()
			if write(t, err); len(taken) != 1 || taken[0] != kind {
				t.Fatalf("the new %s database was not taken: %v", kind, taken)
			}
		}
	}
	stop()
	wg.Wait()
	if ofOld.Load() == 0 || ofNew.Load() == 0 {
		t.Errorf("%d lookups, %d of the old and %d of the new: no test of the swap", lookups.Load(), ofOld.Load(), ofNew.Load())
	}
	t.Logf("%d lookups under %d swaps", lookups.Load(), 3*swaps)
}

// TestWatch: a file that is replaced is taken by itself; a bad one is told, once.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	db := geo.New(geo.Config{Country: path})
	taken, refused := make(chan geo.Kind, 10), make(chan error, 10)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.Watch(ctx, time.Millisecond, func(k geo.Kind) { taken <- k }, func(err error) { refused <- err })
	}()
	write(t, makers[geo.Country](path, built, false))
	if k := <-taken; k != geo.Country || lookup(db, "203.0.113.9").Country != "DE" {
		t.Errorf("took %s: %+v", k, lookup(db, "203.0.113.9"))
	}
	write(t, makers[geo.ASN](path, built, false)) // the wrong kind, in its place
	if err := <-refused; err == nil || lookup(db, "203.0.113.9").Country != "DE" {
		t.Errorf("refused: %v", err)
	}
	write(t, makers[geo.Country](path, built, true))
	if <-taken; lookup(db, "203.0.113.9").Country != "NL" {
		t.Errorf("took another: %+v", lookup(db, "203.0.113.9"))
	}
	stop()
	<-done
	if len(taken)+len(refused) > 0 {
		t.Errorf("more was told: %d taken, %d refused", len(taken), len(refused))
	}
}
