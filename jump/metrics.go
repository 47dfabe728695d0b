package jump

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// This file is the figures for a monitoring system. None names a person, a host or an address, and nothing that fails here can be in a session's way.

// figures are counted while the jump serves.
type figures struct {
	in, out atomic.Int64 // of sessions that are over

	mu       sync.Mutex
	opened   map[string]int64 // by door
	ended    map[string]int64 // by reason
	refused  map[string]int64 // by reason
	channels map[string]int64 // by type
	lag      prometheus.Histogram
}

func newFigures() *figures {
	return &figures{opened: map[string]int64{}, ended: map[string]int64{}, refused: map[string]int64{}, channels: map[string]int64{},
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "breakglass_jump", Name: "record_seconds",
			Help:    "From what was read of a session to its being durable in the journal: what everything that passes waits for.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .5, 2}})}
}

func (f *figures) count(m map[string]int64, label string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m[label]++
}

// durable is told how long a record took.
func (f *figures) durable(d time.Duration) { f.lag.Observe(d.Seconds()) }

// Metrics are the jump's figures, read when they are asked for.
func (j *Jump) Metrics() prometheus.Collector { return &collector{j} }

type collector struct{ j *Jump }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("breakglass_jump_"+name, help, labels, nil)
}

// Describe sends nothing: which labels there are is known when they are counted (an unchecked collector).
func (c *collector) Describe(chan<- *prometheus.Desc) {}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(describe(name, help), prometheus.GaugeValue, v)
	}
	flag := func(name, help string, is bool) {
		v := 0.0
		if is {
			v = 1
		}
		gauge(name, help, v)
	}
	counter := func(name, help, label string, m map[string]int64) {
		d := describe(name, help, label)
		for k, v := range m {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), k)
		}
	}
	j := c.j
	s := j.State()
	blind, channels := 0, 0
	j.mu.Lock()
	in, out := j.figures.in.Load(), j.figures.out.Load()
	for s := range j.sessions {
		if !s.accounted {
			in += s.rec.in.Load()
			out += s.rec.out.Load()
		}
		s.mu.Lock()
		channels += len(s.channels)
		if !s.blind.IsZero() {
			blind++
		}
		s.mu.Unlock()
	}
	j.mu.Unlock()
	left, all := j.cfg.Journal.Room()
	gauge("sessions", "Sessions that run.", float64(s.Sessions))
	gauge("blind_sessions", "Of them, those that run without the CA's sign of life.", float64(blind))
	gauge("channels", "Channels that are open.", float64(channels))
	gauge("unsent_recordings", "Recordings of sessions that are over and not yet in the store.", float64(s.Unsent))
	gauge("facts_behind", "Signed facts that the CA doesn't have yet.", float64(s.Facts-s.Acked))
	gauge("host_names", "Names that the jump has a host certificate for.", float64(s.Names))
	gauge("journal_free_bytes", "Room in the journal; at little of it sessions are cut.", float64(left))
	gauge("journal_size_bytes", "Size of the journal.", float64(all))
	flag("deaf", "1 while the CA gives no sign of life: what it revokes isn't heard.", s.Deaf)
	flag("draining", "1 while the jump lets nobody in because it goes down.", !s.Draining.IsZero())
	bytes := describe("bytes_total", "Bytes that passed and were recorded, by direction as the host sees it.", "direction")
	ch <- prometheus.MustNewConstMetric(bytes, prometheus.CounterValue, float64(in), "in")
	ch <- prometheus.MustNewConstMetric(bytes, prometheus.CounterValue, float64(out), "out")
	j.figures.mu.Lock()
	defer j.figures.mu.Unlock()
	counter("sessions_opened_total", "Sessions opened, by the door.", "door", j.figures.opened)
	counter("sessions_ended_total", "Sessions ended, by the reason.", "reason", j.figures.ended)
	counter("refused_total", "Connections and keys refused before anybody proved anything, by the reason.", "reason", j.figures.refused)
	counter("channels_total", "Channels asked for, by the type.", "type", j.figures.channels)
	ch <- j.figures.lag
}
