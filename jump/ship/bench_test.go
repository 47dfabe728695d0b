package ship

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/jump/journal"
)

// BenchmarkShip is what a byte costs from the journal to the store's door, without the store.
func BenchmarkShip(b *testing.B) {
	const size = 256 << 10
	j, _ := openJournal(b, journal.Config{Dir: b.TempDir(), SegmentSize: 16 << 20, Segments: 15})
	defer j.Close()
	store := newStore(b)
	store.discard = true
	s, _ := begin(b, j, store)
	const n = 600
	b.SetBytes(n * size)
	for i := 1; b.Loop(); i++ {
		b.StopTimer()
		r := record(b, j, name.SessionID(fmt.Sprintf("k7f-2mq/%d", i)))
		r.stream = nil
		for range n {
			r.output(size)
		}
		r.end()
		b.StartTimer()
		r.over(s, store)
		store.is("stored", func() bool { return s.Left() == 0 })
	}
}

// BenchmarkLag is how long after it was durable a record is in the store: of sessions that type, and of one that is fast.
func BenchmarkLag(b *testing.B) {
	for _, c := range []struct {
		sessions, size int
		every          time.Duration
	}{{1, 100, 50 * time.Millisecond}, {64, 100, 50 * time.Millisecond}, {1000, 100, 500 * time.Millisecond}, {1, 256 << 10, 5 * time.Millisecond}} {
		b.Run(fmt.Sprintf("sessions=%d/size=%d", c.sessions, c.size), func(b *testing.B) {
			j, _ := openJournal(b, journal.Config{Dir: b.TempDir(), SegmentSize: 16 << 20, Segments: 15})
			defer j.Close()
			store := newStore(b)
			store.discard = true
			store.slow = 3 * time.Millisecond // a flush, and the way
			var mu sync.Mutex
			var lags []time.Duration
			ctx, cancel := context.WithCancel(context.Background())
			s := New(ctx, Config{Journal: j, Store: store, Facts: store, Logger: slog.New(slog.DiscardHandler), Sent: func(lag time.Duration, _ int64) {
				mu.Lock()
				defer mu.Unlock()
				lags = append(lags, lag)
			}})
			defer s.Wait()
			defer cancel()
			var all []*rec
			for i := range c.sessions {
				r := record(b, j, name.SessionID(fmt.Sprintf("k7f-2mq/%d", i+1)))
				r.stream = nil
				r.follow(s)
				all = append(all, r)
			}
			for b.Loop() {
				var wg sync.WaitGroup
				for _, r := range all {
					wg.Go(func() {
						for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(c.every) {
							r.output(c.size)
						}
					})
				}
				wg.Wait()
			}
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(lags)
			b.ReportMetric(float64(lags[len(lags)/2].Milliseconds()), "p50-ms")
			b.ReportMetric(float64(lags[len(lags)*99/100].Milliseconds()), "p99-ms")
			b.ReportMetric(float64(lags[len(lags)-1].Milliseconds()), "max-ms")
			b.ReportMetric(float64(store.puts)/5/float64(b.N), "puts/s")
		})
	}
}
