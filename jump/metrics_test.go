package jump

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }

// The one line of a session says what an operator looks for, and the figures say what happened; neither says what was typed or shown.
func TestASessionIsAccountedFor(t *testing.T) {
	out := &logged{}
	w := newWorld(t)
	w.j.log = slog.New(slog.NewJSONHandler(out, nil))
	g := w.grant()
	conf, target := w.through("user", g)
	r := run(t, strings.NewReader("typed"), "ssh", "-F", conf, "-A", target, "cat; echo secret >&2; exit 3")
	if r.code != 3 {
		t.Fatalf("%+v", r)
	}
	if _, err := w.plain("nobody", ssh.PublicKeys(g.signer)); err == nil {
		t.Fatal("a plain key was let in")
	}
	o := w.carrier(w.grant())
	o.Close()
	w.session(g, 1)
	var line map[string]any
	for end := time.Now().Add(10 * time.Second); line == nil; time.Sleep(10 * time.Millisecond) {
		out.mu.Lock()
		for l := range bytes.Lines(out.b.Bytes()) {
			if bytes.Contains(l, []byte(`"session ended"`)) {
				check(t, json.Unmarshal(l, &line))
			}
		}
		text := out.b.String()
		out.mu.Unlock()
		if time.Now().After(end) {
			t.Fatalf("no line:\n%s", text)
		}
	}
	for key, want := range map[string]any{
		"session": string(g.request.Session(1)), "request": string(g.request), "person": "alice", "login": w.login, "host": "web01", "peer": "127.0.0.1", "door": "user",
		"reason": "closed", "exit": "3", "bytes_in": 5.0, "bytes_out": 12.0, "channels": "session 1", "forwards": "", "blind_seconds": 0.0, "address": w.sshd,
	} {
		if line[key] != want {
			t.Errorf("%s: %v, want %v", key, line[key], want)
		}
	}
	for key, part := range map[string]string{"client": "SSH-2.0-OpenSSH_", "person_leg": "curve25519-sha256 aes", "host_leg": "aes128-gcm@openssh.com"} {
		if s, _ := line[key].(string); !strings.Contains(s, part) {
			t.Errorf("%s: %v, want %s", key, line[key], part)
		}
	}
	if strings.Contains(out.b.String(), "typed") || strings.Contains(out.b.String(), "secret") {
		t.Error("the log holds what passed")
	}

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w.j.Metrics())
	for end := time.Now().Add(10 * time.Second); w.j.State().Sessions+w.j.State().Unsent > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	all, err := registry.Gather()
	check(t, err)
	lag, got := false, map[string]float64{}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "breakglass_jump_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		if f.GetName() == "breakglass_jump_record_seconds" {
			lag = f.GetMetric()[0].GetHistogram().GetSampleCount() > 0
		}
		if s := f.String(); strings.Contains(s, "alice") || strings.Contains(s, "web01") || strings.Contains(s, "127.0.0.1") {
			t.Errorf("a figure names somebody: %s", s)
		}
	}
	for name, want := range map[string]float64{"bytes_total in": 5, "bytes_total out": 12, "channels_total session": 1, "sessions": 0, "channels": 0, "sessions_ended_total closed": 1,
		"sessions_opened_total user": 1, "unsent_recordings": 0, "blind_sessions": 0, "draining": 0, "deaf": 0} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v, want %v", name, v, want)
		}
	}
	if got["refused_total no_certificate"] != 1 || got["journal_free_bytes"] <= 0 || got["journal_free_bytes"] > got["journal_size_bytes"] {
		t.Errorf("%v", got)
	}
	if !lag {
		t.Error("no record was timed")
	}
}
