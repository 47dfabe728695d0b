package replay

import (
	"fmt"
	"slices"
	"time"

	"breakglass/transcript"
	"breakglass/transcript/derive"
)

// Marker is a place in a recording at which something began: a command, a file, a watcher.
type Marker struct {
	T       time.Duration
	Channel uint32
	Text    string // plain
}

// Index is what a player knows of a recording before it plays.
type Index struct {
	End      time.Duration
	Channels []uint32 // on which the host says anything, in order
	Markers  []Marker
	Sizes    map[uint32]Pty // the terminals, at their largest
	shells   map[uint32]bool
}

// maxMarkers bounds an index: one who pastes a million lines gets the first of them.
const maxMarkers = 10_000

// NewIndex reads a recording once.
func NewIndex(events Events) (*Index, error) {
	x := &Index{Sizes: map[uint32]Pty{}, shells: map[uint32]bool{}}
	mark := func(t time.Duration, ch uint32, text string) {
		if len(x.Markers) < maxMarkers {
			x.Markers = append(x.Markers, Marker{t, ch, text})
		}
	}
	watched := func(yield func(transcript.Event, error) bool) {
		for e, err := range events {
			if err == nil {
				x.event(e, mark)
			}
			if !yield(e, err) {
				return
			}
		}
	}
	var lines []Line
	report, err := derive.Derive(func(yield func(transcript.Event, error) bool) {
		// Lines of input pull the events; what they pull goes on to Derive.
		done := false
		for l, err := range Lines(func(y func(transcript.Event, error) bool) {
			watched(func(e transcript.Event, err error) bool {
				if !done && !yield(e, err) {
					done = true
				}
				return !done && y(e, err)
			})
		}) {
			if err != nil {
				break // Derive was told
			}
			if l.Kind == transcript.KindInput && len(lines) < maxMarkers {
				lines = append(lines, l)
			}
		}
	}, derive.Options{})
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		if _, terminal := x.Sizes[l.Channel]; terminal || x.shells[l.Channel] {
			mark(l.T, l.Channel, "typed: "+l.Text)
		}
	}
	for _, t := range report.Transfers {
		mark(t.Start, t.Channel, fmt.Sprintf("%s %s: %s", t.By, t.Way, plain(t.Path)))
	}
	slices.SortStableFunc(x.Markers, func(a, b Marker) int { return int(a.T - b.T) })
	return x, nil
}

func (x *Index) event(e transcript.Event, mark func(time.Duration, uint32, string)) {
	x.End = max(x.End, e.T)
	switch e.Kind {
	case transcript.KindOutput, transcript.KindStderr:
		if !slices.Contains(x.Channels, e.Chan) {
			x.Channels = append(x.Channels, e.Chan)
		}
	case transcript.KindRequest:
		r, err := transcript.ParseRequest(e.Data)
		if err != nil || r.Step != transcript.Asked || r.From != transcript.FromPerson {
			return
		}
		switch r.Type {
		case "pty-req":
			if p, ok := ParsePty(r.Payload); ok {
				x.Sizes[e.Chan] = p
			}
		case "window-change":
			if p, ok := ParseWindow(r.Payload); ok {
				had := x.Sizes[e.Chan]
				had.Cols, had.Rows = max(had.Cols, p.Cols), max(had.Rows, p.Rows)
				x.Sizes[e.Chan] = had
			}
		case "exec", "subsystem", "shell":
			mark(e.T, e.Chan, r.Type+" "+payload(r))
			x.shells[e.Chan] = r.Type == "shell"
		}
	case transcript.KindWatcher: // marks are what the jump itself says on a terminal
		mark(e.T, e.Chan, Describe(e))
	}
}
