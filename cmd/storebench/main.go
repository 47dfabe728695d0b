// The benchmark of recording and of the ledger by themselves, on this machine's disk. It prints a line "figure NAME VALUE UNIT" for each figure and writes them as a list to
// -out, as internal/bench does for the whole road; it stands here because it imports several houses.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// config is the command line.
type config struct {
	out    string
	rounds int
	span   time.Duration
}

type bench struct {
	cfg     config
	figures []figure
}

func main() {
	var cfg config
	flag.StringVar(&cfg.out, "out", "build/bench-store.json", "where the figures go; the disk beside it is the one that is measured")
	flag.IntVar(&cfg.rounds, "rounds", 5, "rounds of what is short; the median counts")
	flag.DurationVar(&cfg.span, "span", 5*time.Second, "how long one load takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, cfg)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "storebench: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg config) error {
	if err := os.MkdirAll(filepath.Dir(cfg.out), 0o755); err != nil {
		return err
	}
	b := &bench{cfg: cfg}
	if err := b.store(ctx); err != nil {
		return err
	}
	text, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
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
