// The benchmark: the road and the jump beside stock OpenSSH, and the issuing of certificates beside step-ca, on this machine, in one run, interleaved.
// It prints a line "figure NAME VALUE UNIT" for each figure and writes them as a list to -out. A ratio is ours ÷ the peer's; machines are
// shared and noisy, so only ratios within one run mean anything. A peer that is not to be had has no figures.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"breakglass/internal/road"
)

type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// config is the command line.
type config struct {
	bin, out, peers, cache, only string
	runs, rounds, bulk, idle     int
	span                         time.Duration
}

type bench struct {
	*road.Road
	cfg     config
	alice   *road.Person
	peer    string // an ssh_config of the stock peer
	plain   string // alice's own, as config install writes it, with the cipher of every leg
	figures []figure
}

func main() {
	var cfg config
	flag.StringVar(&cfg.bin, "bin", "build/bin", "where the programs are")
	flag.StringVar(&cfg.out, "out", "build/bench.json", "where the figures go")
	flag.IntVar(&cfg.runs, "n", 20, "runs of each way to a shell")
	flag.StringVar(&cfg.peers, "peers", "../shared/peers", "where step-ca.sh is, which installs, starts and stops the peer")
	flag.StringVar(&cfg.cache, "cache", "build/peers", "where the peer's programs are kept")
	flag.IntVar(&cfg.rounds, "rounds", 3, "rounds of each load, ours and the peer's in turn")
	flag.DurationVar(&cfg.span, "span", 5*time.Second, "how long one load takes")
	flag.StringVar(&cfg.only, "only", "", "shell, jump or ca: that part alone")
	flag.IntVar(&cfg.bulk, "bulk", 96, "MiB that pass through the jump at a time")
	flag.IntVar(&cfg.idle, "idle", 100, "idle sessions whose memory is measured; the goal is stated for 1000")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, cfg)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg config) (err error) {
	dir, err := os.MkdirTemp("", "breakglass-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, road.Remove(dir)) }()
	b := &bench{cfg: cfg}
	sinkHost, more, err := newSink()
	if err != nil {
		return err
	}
	defer sinkHost.listener.Close()
	go sinkHost.serve()
	b.Road, err = road.Start(ctx, road.Config{Dir: dir, Bin: cfg.bin, Log: os.Stderr, Policy: road.DemoPolicy + loadPolicy() + sinkPolicy, More: more})
	defer func() { b.End("peer", false); b.Road.Stop() }()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"shell", b.shell}, {"jump", b.jump}, {"ca", b.issuing}} {
		if cfg.only != "" && cfg.only != part.name {
			continue
		}
		if err := part.run(ctx); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(cfg.out, append(text, '\n'), 0o644)
}

func (b *bench) figure(name string, value float64, unit string) {
	fmt.Printf("figure %s %.3f %s\n", name, value, unit)
	b.figures = append(b.figures, figure{name, value, unit})
}

// median of what is not empty; it sorts v.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
