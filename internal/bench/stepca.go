package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// errNoPeer says that there is nothing to be measured beside.
var errNoPeer = errors.New("the peer is not to be had")

const (
	// peerInstall bounds a cold build of the peer.
	peerInstall = 20 * time.Minute
	// peerStop bounds its end.
	peerStop = 30 * time.Second
)

// stepCA is smallstep's step-ca with its default database (badger), run by the peers' own script, and its load generator, which checks each
// certificate as ours does.
type stepCA struct {
	script, dir string
	port        int
}

// startStepCA installs it, once, and starts it on fresh data.
func (b *bench) startStepCA(ctx context.Context) (*stepCA, error) {
	script, err := filepath.Abs(filepath.Join(b.cfg.peers, "step-ca.sh"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(script); err != nil {
		return nil, fmt.Errorf("%w: -peers %s: %w", errNoPeer, b.cfg.peers, err)
	}
	cache, err := filepath.Abs(filepath.Join(b.cfg.cache, "step-ca"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(cache, "bin", "ca-load")); err != nil || !executable(filepath.Join(cache, "bin", "step-ca")) {
		fmt.Fprintln(os.Stderr, "peer     step-ca is built, which takes minutes the first time")
		install, cancel := context.WithTimeout(ctx, peerInstall)
		defer cancel()
		if out, err := exec.CommandContext(install, "bash", script, "install", cache).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: installing: %w\n%s", errNoPeer, err, tail(out))
		}
	}
	s := &stepCA{script: script, dir: filepath.Join(b.Dir, "step-ca")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(s.dir, "bin"), os.DirFS(filepath.Join(cache, "bin"))); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	if out, err := s.command(ctx, "start").CombinedOutput(); err != nil {
		s.stop()
		return nil, fmt.Errorf("starting step-ca: %w\n%s", err, tail(out))
	}
	return s, nil
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&0o100 != 0
}

func (s *stepCA) command(ctx context.Context, what string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", s.script, what, s.dir)
	cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(s.port), "DB=badgerv2")
	// The service keeps running with this output open; a pipe to us would never end.
	cmd.WaitDelay = time.Second
	return cmd
}

func (s *stepCA) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), peerStop)
	defer cancel()
	if out, err := s.command(ctx, "stop").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: stopping step-ca: %v\n%s", err, tail(out))
	}
}

// cpuTime reads the script's pid file, "pid starttime".
func (s *stepCA) cpuTime() (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, "run", "step-ca.pid"))
	if err != nil {
		return 0, err
	}
	text, _, _ := strings.Cut(string(b), " ")
	pid, err := strconv.Atoi(text)
	if err != nil {
		return 0, err
	}
	return cpuTime(pid)
}

func (s *stepCA) load(ctx context.Context, clients int, span time.Duration) (r result, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "bin", "ca-load"), "-target", "step-ca", "-dir", s.dir,
		"-clients", strconv.Itoa(clients), "-duration", span.String(), "-keys", strconv.Itoa(subjects))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil { // it exits 1 on any certificate that it did not get
		return r, fmt.Errorf("load on step-ca: %w\n%s%s", err, tail(out), tail(errs.Bytes()))
	}
	return r, json.Unmarshal(out, &r)
}

// tail is the end of an output, which says what went wrong.
func tail(b []byte) []byte { return b[max(0, len(b)-2000):] }
