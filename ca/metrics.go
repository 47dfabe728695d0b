package ca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"breakglass/ca/state"
	"breakglass/ledger"
)

// This file is the figures for a monitoring system. They come from the ledger as it stands, not from the code that decides: what was rolled back
// is not counted, and nothing that fails here can be in a decision's way. No label names a person, a host or an address.

const (
	// maxCounted is how many entries one reading takes in; the rest is the next one's. It bounds what a reader can make the CA do.
	maxCounted = 10_000
	// metricsTimeout bounds a reading, as Prometheus does by default.
	metricsTimeout = 10 * time.Second
)

// countedTypes are the entries that metrics count.
func countedTypes() []ledger.Type {
	return []ledger.Type{"grant.allowed", "grant.extended", "request.opened", "request.denied", "session.opened", "session.refused", "certificate.issued"}
}

type metrics struct {
	c        *CA
	registry *prometheus.Registry

	mu      sync.Mutex // one reading of the ledger at a time
	counted int64      // the last entry that is counted; the first that is not is behind it

	decisions, certificates, reloads          *prometheus.CounterVec
	age, built, old, lookups, misses, refused *prometheus.Desc
}

func newMetrics(c *CA) *metrics {
	m := &metrics{c: c, registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "breakglass", Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.decisions = counter("decisions_total", "Requests and sessions decided since the start, by outcome (allow, ask, deny) and, of a deny, its first reason.", "of", "outcome", "reason")
	m.certificates = counter("certificates_total", "Certificates issued since the start.", "kind")
	m.reloads = counter("policy_reloads_total", "What became of the policy file when the service was told to look again.", "result")
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("breakglass_geo_"+name, help, []string{"database"}, nil)
	}
	m.age = desc("age_seconds", "Age of the geo database in use; missing where there is none.")
	m.built = desc("built_timestamp_seconds", "When the geo database in use was built; missing where there is none.")
	m.old = desc("usable", "1 if a geo database is in use and the policy takes its answers, 0 if it is missing or too old.")
	m.lookups = desc("lookups_total", "Addresses that the geo database was asked for.")
	m.misses = desc("misses_total", "Addresses that the geo database had no answer for.")
	m.refused = desc("reload_failures_total", "Files of the geo database that were missing, damaged or of the wrong kind.")
	m.registry.MustRegister(geoMetrics{m})
	head, _ := c.state.Head()
	m.counted = head.Size - 1
	return m
}

// policyReloaded counts a look at the policy file.
func (m *metrics) policyReloaded(result string) { m.reloads.WithLabelValues(result).Inc() }

// geoMetrics are read from the databases when somebody asks.
type geoMetrics struct{ m *metrics }

func (g geoMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.m.age, g.m.built, g.m.old, g.m.lookups, g.m.misses, g.m.refused} {
		ch <- d
	}
}

func (g geoMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range g.m.c.geoStatus(g.m.c.policy.Load()) {
		put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, string(s.Kind))
		}
		usable := 0.0
		if !s.Built.IsZero() {
			put(g.m.age, prometheus.GaugeValue, s.Age.Seconds())
			put(g.m.built, prometheus.GaugeValue, float64(s.Built.Unix()))
			if !s.Old() {
				usable = 1
			}
		}
		put(g.m.old, prometheus.GaugeValue, usable)
		put(g.m.lookups, prometheus.CounterValue, float64(s.Lookups))
		put(g.m.misses, prometheus.CounterValue, float64(s.Misses))
		put(g.m.refused, prometheus.CounterValue, float64(s.Failures))
	}
}

// count takes in what the ledger has got since the last reading.
func (m *metrics) count(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.c.state.View(ctx, func(tx *state.Tx) error {
		found, upTo, err := tx.After(m.counted, countedTypes(), maxCounted)
		if err != nil {
			return err
		}
		for _, idx := range found {
			b, err := tx.Entry(idx)
			if err != nil {
				return err
			}
			e, err := ledger.Decode(b)
			if err != nil {
				return fmt.Errorf("entry %d: %w", idx, err)
			}
			m.entry(e)
			m.counted = idx
		}
		m.counted = max(m.counted, upTo)
		return nil
	})
}

func (m *metrics) entry(e *ledger.Entry) {
	decided := func(of, outcome string, reasons []ledger.Reason) {
		reason := ""
		if len(reasons) > 0 {
			reason = reasons[0].Code
		}
		m.decisions.WithLabelValues(of, outcome, reason).Inc()
	}
	switch f := e.Facts.(type) {
	case *ledger.GrantAllowed:
		decided("request", "allow", nil)
	case *ledger.GrantExtended:
		decided("request", "allow", nil)
	case *ledger.RequestOpened:
		if f.Waits != nil {
			decided("request", "ask", nil)
		}
	case *ledger.RequestDenied:
		decided("request", "deny", f.Reasons)
	case *ledger.SessionOpened:
		decided("session", "allow", nil)
	case *ledger.SessionRefused:
		decided("session", "deny", f.Reasons)
	case *ledger.CertificateIssued:
		m.certificates.WithLabelValues(f.Kind).Inc()
	}
}

// handler answers GET /metrics and nothing else.
func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	figures := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: metricsTimeout, ErrorLog: slog.NewLogLogger(m.c.log.Handler(), slog.LevelWarn)})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if err := m.count(r.Context()); err != nil { // the other figures are told all the same
			m.c.log.Warn("reading the ledger for the metrics", "error", err)
		}
		figures.ServeHTTP(w, r)
	})
	return mux
}

// serve listens for readers until ctx ends. That it can't is logged and no more: people have to get in without a monitoring system too.
func (m *metrics) serve(ctx context.Context, listen string) {
	if listen == "" {
		return
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		m.c.log.Error("no metrics: listening", "error", err)
		return
	}
	s := &http.Server{Handler: m.handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: 2 * metricsTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(m.c.log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	m.c.log.Info("metrics", "listen", l.Addr().String())
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		m.c.log.Error("no metrics any more", "error", err)
	}
}
