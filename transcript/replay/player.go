package replay

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"breakglass/transcript"
)

// Player plays one channel of a recording on a terminal, and obeys keys. Only what Filter lets through reaches the terminal.
//
// It holds no more of the recording than what stands on the screen: to go back it reads from the beginning again, which is quick, and shows what the terminal
// was shown last (maxRedraw).
type Player struct {
	// Open gives the recording's events from the beginning, as often as it is called.
	Open  func() (Events, error)
	Index *Index
	Out   io.Writer
	// Size is the viewer's terminal, now.
	Size func() (cols, rows int)
	// Title stands in the status line.
	Title string

	Channel   uint32
	Speed     float64
	IdleLimit time.Duration
	From      time.Duration

	pos     time.Duration
	paused  bool
	status  bool
	note    string // shown in the status line until the next key
	text    string // that is looked for
	filter  Filter
	channel int
}

const (
	// maxRedraw is how much of what came before a place is shown when the player goes there: many screens. Programs that draw a screen begin by clearing it.
	maxRedraw = 256 << 10
	// small and large steps.
	step, leap         = 5 * time.Second, time.Minute
	minSpeed, maxSpeed = 0.25, 64
)

// Keys that aren't characters, as Keys gives them.
const (
	KeyLeft  = "left"
	KeyRight = "right"
	KeyHome  = "home"
	KeyEnd   = "end"
	KeyUp    = "up"
	KeyDown  = "down"
)

const playerHelp = "space pause · arrows 5 s · < > 1 min · [ ] marker · 0-9 tenths · + - speed · / n N search · c channel · i idle · s status · q quit"

// verdict of a key.
type verdict int

const (
	goOn verdict = iota
	moved
	quit
)

// Run plays until the recording ends and a key says quit, or ctx ends. It leaves the terminal as it found it.
func (p *Player) Run(ctx context.Context, keys <-chan string) (err error) {
	if p.Speed <= 0 {
		p.Speed = 1
	}
	p.status = true
	if p.Channel == 0 && len(p.Index.Channels) > 0 {
		p.Channel = p.Index.Channels[0]
	}
	p.channel = slices.Index(p.Index.Channels, p.Channel)
	if size, ok := p.Index.Sizes[p.Channel]; ok {
		if cols, rows := p.Size(); int(size.Cols) > cols || int(size.Rows) > rows {
			p.note = fmt.Sprintf("recorded on %dx%d, this is %dx%d", size.Cols, size.Rows, cols, rows)
		}
	}
	defer func() {
		b := append(p.filter.Flush(nil), p.filter.Reset()...)
		_, rows := p.Size()
		b = fmt.Appendf(b, "\x1b[%d;1H\x1b[K", max(1, rows))
		if _, werr := p.Out.Write(b); err == nil {
			err = werr
		}
	}()
	p.pos = p.From
	for {
		next, stop, err := p.seek()
		if err != nil {
			return err
		}
		v, err := p.play(ctx, next, keys)
		stop()
		if err != nil || v == quit {
			return err
		}
	}
}

// seek draws the screen as it was at pos, and gives the events behind it.
func (p *Player) seek() (next func() (transcript.Event, error, bool), stop func(), err error) {
	p.pos = min(max(0, p.pos), p.Index.End)
	events, err := p.Open()
	if err != nil {
		return nil, nil, err
	}
	reset := p.filter.Reset()
	p.filter = Filter{}
	var shown, buf []byte
	pull, stop := iter.Pull2(events)
	var first *transcript.Event
	for {
		e, err, ok := pull()
		if err != nil {
			stop()
			return nil, nil, err
		}
		if !ok {
			break
		}
		if e.T > p.pos {
			first = &e
			break
		}
		if !p.mine(e) {
			continue
		}
		buf = p.filter.Append(buf[:0], e.Data)
		if shown = append(shown, buf...); len(shown) > 2*maxRedraw {
			shown = append([]byte(nil), lastLines(shown, maxRedraw)...)
		}
	}
	out := append(reset, "\x1b[m\x1b[H\x1b[2J"...)
	out = append(out, lastLines(shown, maxRedraw)...)
	if _, err := p.Out.Write(out); err != nil {
		stop()
		return nil, nil, err
	}
	p.showStatus()
	return func() (transcript.Event, error, bool) {
		if first != nil {
			e := *first
			first = nil
			return e, nil, true
		}
		return pull()
	}, stop, nil
}

// lastLines is the end of b, from a line's beginning.
func lastLines(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	b = b[len(b)-n:]
	if i := slices.Index(b, '\n'); i >= 0 {
		return b[i+1:]
	}
	return b
}

func (p *Player) mine(e transcript.Event) bool {
	return e.Chan == p.Channel && (e.Kind == transcript.KindOutput || e.Kind == transcript.KindStderr)
}

// play goes on from pos until a key moves it, or says quit.
func (p *Player) play(ctx context.Context, next func() (transcript.Event, error, bool), keys <-chan string) (verdict, error) {
	var buf []byte
	var ahead *transcript.Event
	ended := false
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	waits := false // the timer runs for ahead
	var began time.Time
	var from time.Duration
	for {
		for ahead == nil && !ended {
			e, err, ok := next()
			switch {
			case err != nil:
				return quit, err
			case !ok:
				ended, p.paused = true, true
				p.pos, p.note = p.Index.End, "the end · q quits"
				p.showStatus()
			case p.mine(e):
				ahead = &e
			}
		}
		if ahead != nil && !p.paused && !waits {
			wait := max(0, ahead.T-p.pos)
			if p.IdleLimit > 0 {
				wait = min(wait, p.IdleLimit)
			}
			timer.Reset(time.Duration(float64(wait) / p.Speed))
			waits, began, from = true, time.Now(), p.pos
		}
		var due <-chan time.Time
		if waits {
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return quit, ctx.Err()
		case <-due:
			p.pos, waits = ahead.T, false
			buf = p.filter.Append(buf[:0], ahead.Data)
			ahead = nil
			if _, err := p.Out.Write(buf); err != nil {
				return quit, err
			}
		case <-tick.C:
			if waits {
				p.passed(began, from, ahead)
			}
			p.showStatus()
		case k, ok := <-keys:
			if !ok {
				return quit, nil
			}
			if waits {
				p.passed(began, from, ahead)
				timer.Stop()
				waits = false // the key may change pace
			}
			v, err := p.key(ctx, k, keys)
			if err != nil || v == quit || v == moved {
				return v, err
			}
			p.showStatus()
		}
	}
}

// passed counts the time in which nothing came.
func (p *Player) passed(began time.Time, from time.Duration, ahead *transcript.Event) {
	p.pos = min(from+time.Duration(float64(time.Since(began))*p.Speed), ahead.T)
}

func (p *Player) key(ctx context.Context, k string, keys <-chan string) (verdict, error) {
	p.note = ""
	to := func(t time.Duration) (verdict, error) {
		p.pos = t
		return moved, nil
	}
	switch k {
	case "q", "Q", "\x03", "\x04", "\x1b":
		return quit, nil
	case " ":
		p.paused = !p.paused
	case KeyLeft, "h":
		return to(p.pos - step)
	case KeyRight, "l":
		return to(p.pos + step)
	case "<", ",":
		return to(p.pos - leap)
	case ">", ".":
		return to(p.pos + leap)
	case KeyHome:
		return to(0)
	case KeyEnd, "G":
		return to(p.Index.End)
	case "+", "=", KeyUp:
		p.Speed = min(maxSpeed, p.Speed*2)
	case "-", "_", KeyDown:
		p.Speed = max(minSpeed, p.Speed/2)
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9":
		return to(p.Index.End / 10 * time.Duration(k[0]-'0'))
	case "]", "[":
		return p.marker(k == "]")
	case "/":
		return p.ask(ctx, keys)
	case "n", "N":
		return p.find(ctx, k == "n")
	case "c":
		if len(p.Index.Channels) < 2 {
			p.note = "there is no other channel"
			return goOn, nil
		}
		p.channel = (p.channel + 1) % len(p.Index.Channels)
		p.Channel = p.Index.Channels[p.channel]
		p.note = fmt.Sprintf("channel %d", p.Channel)
		return moved, nil
	case "i":
		if p.IdleLimit = 2*time.Second - p.IdleLimit; p.IdleLimit <= 0 {
			p.IdleLimit, p.note = 0, "pauses as they were"
		} else {
			p.IdleLimit, p.note = 2*time.Second, "pauses of 2 s at most"
		}
	case "s":
		p.status = !p.status
		return moved, nil // draws anew what was under it
	case "?":
		p.note = playerHelp
	}
	return goOn, nil
}

// marker goes to the next place at which something began, or to the one before: not to the one where it just is, which plays on meanwhile.
func (p *Player) marker(forward bool) (verdict, error) {
	const here = 500 * time.Millisecond
	ms := p.Index.Markers
	if forward {
		for _, m := range ms {
			if m.T > p.pos {
				return p.at(m)
			}
		}
		p.note = "no marker behind this"
		return goOn, nil
	}
	for _, m := range slices.Backward(ms) {
		if m.T < p.pos-here {
			return p.at(m)
		}
	}
	p.note = "no marker before this"
	return goOn, nil
}

func (p *Player) at(m Marker) (verdict, error) {
	p.pos, p.note = m.T, m.Text
	if m.Channel != 0 && slices.Contains(p.Index.Channels, m.Channel) {
		p.Channel, p.channel = m.Channel, slices.Index(p.Index.Channels, m.Channel)
	}
	return moved, nil
}

// ask reads a text in the status line, and goes to where it is next.
func (p *Player) ask(ctx context.Context, keys <-chan string) (verdict, error) {
	text := ""
	for {
		p.note = "/" + text
		p.drawStatus(p.note)
		select {
		case <-ctx.Done():
			return quit, ctx.Err()
		case k, ok := <-keys:
			switch {
			case !ok:
				return quit, nil
			case k == "\r" || k == "\n":
				if text != "" {
					p.text = text
				}
				if p.text == "" {
					p.note = ""
					return goOn, nil
				}
				return p.find(ctx, true)
			case k == "\x1b" || k == "\x03":
				p.note = ""
				return moved, nil
			case k == "\x7f" || k == "\b":
				if r := []rune(text); len(r) > 0 {
					text = string(r[:len(r)-1])
				}
			case len([]rune(k)) == 1 && k >= " ":
				text += k
			}
		}
	}
}

// find goes to the next line of text that holds what is looked for, or to the one before.
func (p *Player) find(ctx context.Context, forward bool) (verdict, error) {
	if p.text == "" {
		p.note = "nothing is looked for: /"
		return goOn, nil
	}
	events, err := p.Open()
	if err != nil {
		return quit, err
	}
	var found *Line
	for l, err := range Lines(events) {
		if err != nil {
			return quit, err
		}
		if ctx.Err() != nil {
			return quit, ctx.Err()
		}
		if !forward && l.T >= p.pos {
			break
		}
		if forward && l.T <= p.pos || !strings.Contains(l.Text, p.text) {
			continue
		}
		found = &l
		if forward {
			break
		}
	}
	if found == nil {
		p.note = fmt.Sprintf("%q is not %s this", p.text, map[bool]string{true: "behind", false: "before"}[forward])
		return goOn, nil
	}
	return p.at(Marker{found.T, found.Channel, fmt.Sprintf("%s: %s", found.Source(), strings.TrimSpace(found.Text))})
}

// showStatus writes the last line, where there is room for it: beneath the recorded screen, or over it while the player is paused or has something to say.
func (p *Player) showStatus() {
	_, rows := p.Size()
	size, terminal := p.Index.Sizes[p.Channel]
	if !p.status || terminal && int(size.Rows) >= rows && !p.paused && p.note == "" {
		return
	}
	state := "▶"
	if p.paused {
		state = "‖"
	}
	text := fmt.Sprintf("%s %s / %s  %gx", state, clockOf(p.pos), clockOf(p.Index.End), p.Speed)
	if len(p.Index.Channels) > 1 {
		text += fmt.Sprintf("  channel %d of %d", p.channel+1, len(p.Index.Channels))
	}
	if p.note != "" {
		text += "  " + p.note
	} else {
		text += "  ? help  " + p.Title
	}
	p.drawStatus(text)
}

// drawStatus writes text into the last line and brings the cursor back. Nothing of a recording in it does more than be seen.
func (p *Player) drawStatus(text string) {
	cols, rows := p.Size()
	var f Filter
	f.text = true
	b := f.Flush(f.Append(nil, []byte(strings.ReplaceAll(text, "\n", " "))))
	r := []rune(string(b))
	if len(r) > cols-1 {
		r = append(r[:max(0, cols-2)], '…')
	}
	fmt.Fprintf(p.Out, "\x1b7\x1b[%d;1H\x1b[0;7m%s%s\x1b[m\x1b8", rows, string(r), strings.Repeat(" ", max(0, cols-1-len(r))))
}

func clockOf(d time.Duration) string {
	d = d.Truncate(time.Second)
	return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
}

// Keys reads keys from a terminal in raw mode: characters, and names for the keys that send sequences. The channel is closed when the terminal is.
func Keys(r io.Reader) <-chan string {
	keys := make(chan string, 16)
	go func() {
		defer close(keys)
		b := make([]byte, 256)
		for {
			n, err := r.Read(b)
			for _, k := range parseKeys(b[:n]) {
				keys <- k
			}
			if err != nil {
				return
			}
		}
	}()
	return keys
}

// parseKeys cuts what a terminal sent at once into keys: a sequence comes whole, but for a line that is very bad.
func parseKeys(b []byte) (keys []string) {
	names := map[string]string{"\x1b[D": KeyLeft, "\x1b[C": KeyRight, "\x1b[A": KeyUp, "\x1b[B": KeyDown, "\x1bOD": KeyLeft, "\x1bOC": KeyRight, "\x1bOA": KeyUp, "\x1bOB": KeyDown,
		"\x1b[H": KeyHome, "\x1b[F": KeyEnd, "\x1bOH": KeyHome, "\x1bOF": KeyEnd, "\x1b[1~": KeyHome, "\x1b[4~": KeyEnd}
	s := string(b)
next:
	for s != "" {
		if s[0] == 0x1b && len(s) > 1 {
			for seq, name := range names {
				if strings.HasPrefix(s, seq) {
					keys, s = append(keys, name), s[len(seq):]
					continue next
				}
			}
			// One that is not known: all of it, or its end would be taken for keys.
			i := 2
			for i < len(s) && s[1] == '[' && (s[i] < 0x40 || s[i] > 0x7e) {
				i++
			}
			s = s[min(len(s), i+1):]
			continue
		}
		_, n := utf8.DecodeRuneInString(s)
		keys, s = append(keys, s[:n]), s[n:]
	}
	return keys
}
