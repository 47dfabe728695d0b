package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"breakglass/jump"
)

const (
	// metricsTimeout bounds one reading, as Prometheus does by default; readTimeout whoever connects and says nothing.
	metricsTimeout = 10 * time.Second
	readTimeout    = 5 * time.Second
	// maxReadings at once: more are a mistake.
	maxReadings = 4
)

// serveMetrics answers GET /metrics and nothing else until ctx ends. That it can't is logged and no more: people have to get in without a monitoring
// system, too.
func serveMetrics(ctx context.Context, listen string, j *jump.Jump, log *slog.Logger) {
	if listen == "" {
		return
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		log.Error("no metrics: listening", "error", err)
		return
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(j.Metrics())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxReadings, Timeout: metricsTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: 2 * metricsTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	log.Info("metrics", "listen", l.Addr().String())
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("no metrics any more", "error", err)
	}
}
