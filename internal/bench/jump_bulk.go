package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// bulk measures how fast random bytes and text pass, from the host and to it. The time is from the first byte's going to the last one's
// coming: login and start are measured elsewhere.
func (b *bench) bulk(ctx context.Context) error {
	size := b.cfg.bulk << 20
	data := map[string][]byte{"random": randomBytes(size), "text": logLines(size)}
	for kind, d := range data {
		if err := os.WriteFile(b.onHost(kind), d, 0o600); err != nil {
			return err
		}
	}
	rates := map[string][]float64{}
	ratios := map[string][]float64{}
	for range b.cfg.rounds {
		for _, kind := range []string{"random", "text"} {
			for _, way := range []string{"down", "up"} {
				var took [4]float64
				for i, w := range bulkWays {
					d, err := b.pass(ctx, w, way, kind, data[kind])
					if err != nil {
						return fmt.Errorf("%s %s over %s: %w", kind, way, w, err)
					}
					took[i] = d.Seconds()
					name := way + "_" + kind + "_" + w
					rates[name] = append(rates[name], float64(size)/1e6/d.Seconds())
				}
				ratios[way+"_"+kind] = append(ratios[way+"_"+kind], took[1]/took[2])
				if kind == "random" {
					ratios["intercepted_"+way] = append(ratios["intercepted_"+way], took[1]/took[3])
				}
				if err := b.drained(ctx); err != nil {
					return err
				}
			}
		}
	}
	for _, kind := range []string{"random", "text"} {
		for _, way := range []string{"down", "up"} {
			for _, w := range bulkWays {
				b.figure(way+"_"+kind+"_"+w, median(rates[way+"_"+kind+"_"+w]), "MB/s")
			}
			// Of each round by itself: a load that comes and goes hits both.
			b.figure(way+"_"+kind+"_vs_ssh_J", median(ratios[way+"_"+kind]), "ratio")
		}
	}
	for _, way := range []string{"down", "up"} {
		b.figure("intercepted_"+way+"_vs_ssh_J", median(ratios["intercepted_"+way]), "ratio")
	}
	return nil
}

func (b *bench) onHost(kind string) string { return filepath.Join(b.Dir, "host", "bulk."+kind) }

// pass sends data one way and gives how long it took.
func (b *bench) pass(ctx context.Context, w, way, kind string, data []byte) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	command := fmt.Sprintf("echo ready; read go; exec cat %s", b.onHost(kind))
	if way == "up" {
		command = "echo ready; wc -c" // cmp or a hash would be the slowest of all
	}
	r, err := b.begin(ctx, w, false, command)
	if err != nil {
		return 0, err
	}
	defer r.cmd.Process.Kill()
	start := time.Now()
	if way == "down" {
		if _, err := r.in.Write([]byte("\n")); err != nil {
			return 0, err
		}
		n, err := io.Copy(&sameAs{data}, r.out)
		took := time.Since(start)
		if err == nil && int(n) != len(data) {
			err = fmt.Errorf("%d bytes of %d", n, len(data))
		}
		return took, errors.Join(err, r.end())
	}
	_, err = r.in.Write(data)
	r.in.Close()
	line, e := r.out.ReadString('\n')
	took := time.Since(start)
	if err = errors.Join(err, e); err == nil && strings.TrimSpace(line) != strconv.Itoa(len(data)) {
		err = fmt.Errorf("%q bytes arrived of %d", line, len(data))
	}
	return took, errors.Join(err, r.end())
}

// sameAs holds what is written to it against what is expected.
type sameAs struct{ left []byte }

func (s *sameAs) Write(b []byte) (int, error) {
	if len(b) > len(s.left) || !bytes.Equal(b, s.left[:len(b)]) {
		return 0, errors.New("other bytes came than were sent")
	}
	s.left = s.left[len(b):]
	return len(b), nil
}

// randomBytes are the same in each run, and nothing compresses them.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// logLines are what people read on hosts, most of all: they compress to a sixth or so.
func logLines(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 3, 29, 2, 0, 0, 0, time.UTC)
	paths := []string{"/", "/login", "/api/v1/orders", "/api/v1/orders/%d", "/static/app.js", "/healthz"}
	b := make([]byte, 0, n+256)
	for len(b) < n {
		at = at.Add(time.Duration(r.IntN(200)) * time.Millisecond)
		path := paths[r.IntN(len(paths))]
		if strings.Contains(path, "%d") {
			path = fmt.Sprintf(path, r.IntN(1e6))
		}
		b = fmt.Appendf(b, "%s web01 nginx[%d]: 10.%d.%d.%d \"GET %s HTTP/1.1\" %d %d %.3f\n", at.Format("Jan _2 15:04:05.000"), 1000+r.IntN(8),
			r.IntN(4), r.IntN(256), r.IntN(256), path, []int{200, 200, 200, 304, 500}[r.IntN(5)], r.IntN(50000), r.Float64())
	}
	return b[:n]
}
