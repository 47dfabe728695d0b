package journal

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkLag measures from Append's call to its return: what write-ahead adds to each keystroke. One session
// appends as fast as it is answered; of many each has 20 events a second.
func BenchmarkLag(b *testing.B) {
	for _, sessions := range []int{1, 64} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			j, _, err := Open(Config{Dir: b.TempDir(), SegmentSize: 64 << 20, Segments: 3})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			var mu sync.Mutex
			var lags []time.Duration
			var wg sync.WaitGroup
			data := make([]byte, 160)
			b.ResetTimer()
			for s := range sessions {
				wg.Go(func() {
					var mine []time.Duration
					time.Sleep(time.Duration(s) * 50 * time.Millisecond / time.Duration(sessions)) // not all at once
					for range max(b.N/sessions, 1) {
						t := time.Now()
						if err := j.Append(Entry{Stream: sid(s), Data: data}); err != nil {
							b.Error(err)
							return
						}
						mine = append(mine, time.Since(t))
						if sessions > 1 {
							time.Sleep(50*time.Millisecond - time.Since(t)) // 20 events a second
						}
					}
					mu.Lock()
					lags = append(lags, mine...)
					mu.Unlock()
				})
			}
			wg.Wait()
			slices.Sort(lags)
			b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkBulk appends 64 KiB at a time, two in flight, as a session does whose sealing overlaps committing.
func BenchmarkBulk(b *testing.B) {
	j, _, err := Open(Config{Dir: b.TempDir(), SegmentSize: 32 << 20, Segments: 4})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	data := make([]byte, 64<<10)
	b.SetBytes(int64(len(data)))
	flight := make(chan struct{}, 2)
	var n uint64
	for b.Loop() {
		flight <- struct{}{}
		if err := j.AppendAsync(Entry{Stream: sid(1), Data: data}, func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-flight
		}); err != nil {
			b.Fatal(err)
		}
		if n++; n%256 == 0 {
			if err := j.Trim(sid(1), n-3); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkOpen reads back a full journal.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	c := Config{Dir: dir, SegmentSize: 16 << 20, Segments: 4, Reserve: 1}
	j, _, err := Open(c)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; ; i++ {
		if err := j.AppendAsync(Entry{Stream: sid(i % 50), Data: make([]byte, 200)}, func(error) {}); err != nil {
			break
		}
	}
	j.Close()
	b.SetBytes(64 << 20)
	for b.Loop() {
		j, _, err := Open(c)
		if err != nil {
			b.Fatal(err)
		}
		j.Close()
	}
}
