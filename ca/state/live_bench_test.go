package state

import (
	"context"
	"fmt"
	"testing"

	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// BenchmarkLive asks what every decision asks, beside thousands of grants that are alive: a person's places, as many of their grants as would be too
// many, and how many stand on a rule.
func BenchmarkLive(b *testing.B) {
	const people, each = 4, 1000
	l := ledgertest.New(b)
	for i := range people {
		key := l.Enrol(name.Person(fmt.Sprintf("person%d", i)))
		for range each {
			l.Grant(key, nil)
		}
	}
	s, _ := openAt(b, b.TempDir())
	defer s.Close()
	if err := s.Do(context.Background(), func(tx *Tx) error {
		for _, e := range l.Entries {
			d, err := ledger.Decode(e)
			if err != nil {
				return err
			}
			if _, _, err := tx.Append(d); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	if err := s.View(context.Background(), func(tx *Tx) error {
		all, err := tx.LiveOf("person0", "", l.Now, people*each)
		if err != nil || len(all) != each {
			return fmt.Errorf("%d alive: %w", len(all), err)
		}
		rule := all[0].Rule
		for _, q := range []struct {
			name string
			want int
			ask  func() (int, error)
		}{
			{"places", 1, func() (int, error) { g, err := tx.LiveOf("person0", "", l.Now, 0); return len(g), err }},
			{"limit-5", 5, func() (int, error) { g, err := tx.LiveOf("person0", "", l.Now, 5); return len(g), err }},
			{"limit-1000", 1000, func() (int, error) { g, err := tx.LiveOf("person0", "", l.Now, 1000); return len(g), err }},
			{"rule-5", 5, func() (int, error) { return tx.LiveOn(rule, "", l.Now, 5) }},
			{"rule-1000", 1000, func() (int, error) { return tx.LiveOn(rule, "", l.Now, 1000) }},
		} {
			b.Run(q.name, func(b *testing.B) {
				for b.Loop() {
					if n, err := q.ask(); err != nil || n != q.want {
						b.Fatal(n, err)
					}
				}
			})
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}
