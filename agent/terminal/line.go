package terminal

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Line is one line that is written again and again, for a long wait. Where stderr is no terminal, each text is a line of its own, once.
type Line struct {
	t    *Terminal
	mu   sync.Mutex
	text func() string // with what is left, as of now
	said string
	stop chan struct{}
	over chan struct{}
}

// Line begins a line; Set gives it its text.
func (t *Terminal) Line() *Line {
	l := &Line{t: t, stop: make(chan struct{}), over: make(chan struct{})}
	if !t.live {
		close(l.over)
		return l
	}
	go func() {
		defer close(l.over)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				l.mu.Lock()
				l.show()
				l.mu.Unlock()
			}
		}
	}()
	return l
}

// Set says what the line shows from now on: still is what changes only with what happened, running is added to it on a terminal, as of each second.
func (l *Line) Set(still string, running func() string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.t.live {
		if still != l.said {
			l.said = still
			l.t.Say("%s", still)
		}
		return
	}
	l.text = func() string { return still + running() }
	l.show()
}

// Note writes a line of its own above.
func (l *Line) Note(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t.live {
		fmt.Fprintf(l.t.cfg.Stderr, "\r\x1b[K") // a terminal: the line begins anew below
	}
	l.t.Say(format, a...)
	l.show()
}

// show writes the line over itself: never wider than the terminal, or it would not be one line.
func (l *Line) show() {
	if l.text == nil || !l.t.live {
		return
	}
	width := 80
	if w, _, err := term.GetSize(int(l.t.cfg.Stderr.Fd())); err == nil && w > 1 {
		width = w
	}
	r := []rune(l.text())
	if len(r) > width-1 {
		r = append(r[:width-2], '…')
	}
	fmt.Fprintf(l.t.cfg.Stderr, "\r%s%s", string(r), strings.Repeat(" ", width-1-len(r)))
}

// Done leaves the line as it stands.
func (l *Line) Done() {
	select {
	case <-l.over:
		return
	default:
	}
	close(l.stop)
	<-l.over
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text != nil {
		l.show()
		fmt.Fprintln(l.t.cfg.Stderr)
	}
}
