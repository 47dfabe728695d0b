package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/transcript"
)

// screen takes what is written, and counts.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.b.String()
	s.b.Reset()
	return t
}

func asked(t time.Duration, ch uint32, typ string, payload []byte) transcript.Event {
	return transcript.Event{T: t, Kind: transcript.KindRequest, Chan: ch,
		Data: transcript.Request{Step: transcript.Asked, From: transcript.FromPerson, Type: typ, Want: true, Payload: payload}.Encode()}
}

// tape is a recording of an hour: a shell in which a line is typed and answered every minute, and a command in a channel of its own.
func tape() []transcript.Event {
	pty := append(sshString("xterm"), make([]byte, 16)...)
	binary.BigEndian.PutUint32(pty[9:], 80)
	binary.BigEndian.PutUint32(pty[13:], 24)
	es := []transcript.Event{
		{Kind: transcript.KindOpen, Chan: 1, Data: transcript.Opening{Step: transcript.Asked, From: transcript.FromPerson, Type: "session"}.Encode()},
		asked(0, 1, "pty-req", pty), asked(0, 1, "shell", nil),
	}
	for i := range 60 {
		at := time.Duration(i) * time.Minute
		es = append(es, transcript.Event{T: at, Kind: transcript.KindInput, Chan: 1, Data: fmt.Appendf(nil, "command-%d\r", i)},
			transcript.Event{T: at + time.Second, Kind: transcript.KindOutput, Chan: 1, Data: fmt.Appendf(nil, "answer-%d\r\n", i)})
		if i == 30 {
			es = append(es, transcript.Event{T: at + time.Second, Kind: transcript.KindOpen, Chan: 2, Data: transcript.Opening{Step: transcript.Asked, From: transcript.FromPerson, Type: "session"}.Encode()},
				asked(at+time.Second, 2, "exec", sshString("uptime")),
				transcript.Event{T: at + 2*time.Second, Kind: transcript.KindOutput, Chan: 2, Data: []byte("load average: 7\r\n")})
		}
	}
	return es
}

func eventsOf(es []transcript.Event) Events {
	return func(yield func(transcript.Event, error) bool) {
		for _, e := range es {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// playing is a player with somebody who types.
type playing struct {
	t      *testing.T
	p      *Player
	s      *screen
	keys   chan string
	done   chan error
	cancel context.CancelFunc
}

func begin(t *testing.T, es []transcript.Event) *playing {
	t.Helper()
	x, err := NewIndex(eventsOf(es))
	if err != nil {
		t.Fatal(err)
	}
	g := &playing{t: t, s: &screen{}, keys: make(chan string), done: make(chan error, 1)}
	g.p = &Player{Index: x, Out: g.s, Title: "k7f-2mq/1", Open: func() (Events, error) { return eventsOf(es), nil }, Size: func() (int, int) { return 100, 30 }}
	ctx, cancel := context.WithCancel(t.Context())
	g.cancel = cancel
	go func() { g.done <- g.p.Run(ctx, g.keys) }()
	t.Cleanup(cancel)
	return g
}

// types sends keys, and gives what is to be seen then: it waits until all of the texts are.
func (g *playing) types(keys string, want ...string) string {
	g.t.Helper()
	g.s.take()
	for _, k := range parseKeys([]byte(keys)) {
		g.keys <- k
	}
	seen := ""
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		seen += g.s.take()
		if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(seen, w) }) {
			return seen
		}
		if time.Now().After(end) {
			g.t.Fatalf("after %q: %q is not to be seen in\n%q", keys, want, seen)
		}
	}
}

func TestPlayer(t *testing.T) {
	g := begin(t, tape())
	g.types(" ", "‖ 0:00:0", "0:59:01")
	seen := g.types("5", "0:29:30", "answer-29")
	if strings.Contains(seen, "answer-30") || !strings.Contains(seen, "answer-0\r\n") {
		t.Errorf("in the middle: %q", seen)
	}
	g.types("\x1b[C\x1b[C", "0:29:40") // →
	g.types("\x1b[D", "0:29:35")       // ←
	g.types(">", "0:30:35", "answer-30")
	if seen := g.types("<", "0:29:35"); strings.Contains(seen, "answer-30") {
		t.Errorf("what comes later is seen: %q", seen)
	}
	g.types("]", "typed: command-30", "0:30:00")
	g.types("]", "uptime", "channel 2 of 2")                         // on its own channel
	g.types("[", "typed: command-30", "answer-29", "channel 1 of 2") // and back
	g.types("/answer-4\r", "out: answer-4", "0:40:01")
	g.types("n", "0:41:01", "answer-41")
	g.types("N", "0:40:01")
	g.types("/nowhere\r", `"nowhere" is not behind this`)
	g.types("c", "channel 2")
	g.types("c", "channel 1")
	g.types("+", "2x")
	g.types("--", "0.5x")
	g.types("\x1b[H", "0:00:00")
	g.types("?", "space pause")
	g.types("\x1b[F", "the end", "answer-59")
	g.keys <- "q"
	if err := <-g.done; err != nil {
		t.Error(err)
	}
}

// It goes on by itself, as fast as it was, and twice as fast; pauses are cut.
func TestPlayerPlays(t *testing.T) {
	g := begin(t, tape())
	g.types("", "answer-0")
	g.types("i"+strings.Repeat("+", 6), "answer-1", "answer-2", "answer-3") // pauses of 2 s at most, 64 times as fast
	g.cancel()
	if err := <-g.done; err != context.Canceled {
		t.Error(err)
	}
	if end := g.s.take(); !strings.HasSuffix(end, "\x1b[30;1H\x1b[K") {
		t.Errorf("the terminal is left as %q", end)
	}
}

// Whatever a recording holds, going to any place shows nothing but what the filter lets through.
func TestPlayerIsSafe(t *testing.T) {
	evil := "\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1bP$q\"p\x1b\\\x1b[6n\x1b[?1000h\x1b[21t\x1b[5i\u009b6n\x9b6n\x1bc"
	es := []transcript.Event{asked(0, 1, "shell", nil)}
	for i := range 50 {
		es = append(es, transcript.Event{T: time.Duration(i) * time.Second, Kind: transcript.KindInput, Chan: 1, Data: []byte(evil + "x\r")},
			transcript.Event{T: time.Duration(i) * time.Second, Kind: transcript.KindOutput, Chan: 1, Data: []byte(evil[i%len(evil):] + evil + "text\r\n")})
	}
	g := begin(t, es)
	seen := g.types(" 1]]/text\rnN9\x1b[H\x1b[F", "the end")
	g.keys <- "q"
	<-g.done
	seen += g.s.take()
	for _, bad := range []string{"\x1b]", "\x1bP", "\x1b[6n", "\x1b[?1000h", "\x1b[21t", "\x1b[5i", "\x1bc", "\u009b", "\x9b6n", "\x07"} {
		if strings.Contains(seen, bad) {
			t.Errorf("%q reaches the terminal", bad)
		}
	}
}

// A long recording costs no more memory than a short one: what is drawn is the end of it.
func TestPlayerDrawsTheEnd(t *testing.T) {
	line := bytes.Repeat([]byte("y"), 1000)
	es := []transcript.Event{asked(0, 1, "shell", nil)}
	for i := range 5000 {
		es = append(es, transcript.Event{T: time.Duration(i) * time.Millisecond, Kind: transcript.KindOutput, Chan: 1, Data: append(fmt.Appendf(nil, "line %d ", i), append(line, "\r\n"...)...)})
	}
	g := begin(t, es)
	seen := g.types(" \x1b[F", "line 4999")
	if len(seen) > 2*maxRedraw || strings.Contains(seen, "line 4000 ") {
		t.Errorf("%d bytes drawn", len(seen))
	}
	g.keys <- "q"
	<-g.done
}

func FuzzKeys(f *testing.F) {
	for _, s := range []string{"q", "\x1b[D", "\x1b", "\x1b[1;5D", "é\xff\x1b[", "\x1bOH "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for _, k := range parseKeys(b) {
			if k == "" {
				t.Fatalf("an empty key out of %q", b)
			}
			n++
		}
		if n > len(b) {
			t.Fatalf("%d keys out of %q", n, b)
		}
	})
}
