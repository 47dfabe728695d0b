package replay

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"time"

	"breakglass/transcript"
)

// Text writes the whole recording as plain text to search and read: all channels, both directions, requests, the jump's own
// acts. Each line begins with its time, channel and source. Colours and cursor movements vanish so that words stay whole;
// whatever else isn't plain text is shown escaped, so that nothing hides. Data that is not text at all is named by
// its length and hash.
func Text(w io.Writer, events Events) error {
	t := &texter{w: bufio.NewWriter(w), filters: map[source]*Filter{}}
	for e, err := range events {
		if err != nil {
			t.flush()
			return err
		}
		t.event(e)
	}
	for _, s := range t.order {
		if b := t.filters[s].Flush(nil); len(b) > 0 {
			t.write(t.last, s, b)
		}
	}
	return t.flush()
}

// source is who says something where.
type source struct {
	ch   uint32
	kind transcript.Kind
}

func (s source) String() string {
	switch s.kind {
	case transcript.KindInput:
		return "in"
	case transcript.KindOutput:
		return "out"
	case transcript.KindStderr:
		return "err"
	}
	return "--"
}

type texter struct {
	w       *bufio.Writer
	filters map[source]*Filter
	order   []source
	last    time.Duration
	open    bool // in the middle of a line
	in      source
}

func (t *texter) flush() error {
	if t.open {
		t.w.WriteByte('\n')
		t.open = false
	}
	return t.w.Flush()
}

func (t *texter) event(e transcript.Event) {
	s := source{e.Chan, e.Kind}
	t.last = e.T
	switch e.Kind {
	case transcript.KindInput, transcript.KindOutput, transcript.KindStderr:
		if binaryData(e.Data) {
			sum := sha256.Sum256(e.Data)
			t.line(e.T, s, fmt.Sprintf("<%d bytes, not text, sha256 %x>", len(e.Data), sum[:8]))
			return
		}
		f := t.filters[s]
		if f == nil {
			f = &Filter{text: true}
			t.filters[s] = f
			t.order = append(t.order, s)
		}
		data := e.Data
		if e.Kind == transcript.KindInput {
			// A terminal's Enter is CR, and a line that ends with it is a line.
			data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
		}
		t.write(e.T, s, f.Append(nil, data))
	default:
		t.line(e.T, s, Describe(e))
	}
}

// write adds text to the line that its source has begun, or begins one.
func (t *texter) write(at time.Duration, s source, b []byte) {
	for len(b) > 0 {
		if t.open && t.in != s {
			t.w.WriteByte('\n')
			t.open = false
		}
		if !t.open {
			t.prefix(at, s)
		}
		line, rest, nl := bytes.Cut(b, []byte("\n"))
		t.w.Write(line)
		t.open, t.in = true, s
		if nl {
			t.w.WriteByte('\n')
			t.open = false
		}
		b = rest
	}
}

func (t *texter) line(at time.Duration, s source, text string) {
	if t.open {
		t.w.WriteByte('\n')
		t.open = false
	}
	t.prefix(at, s)
	t.w.WriteString(text)
	t.w.WriteByte('\n')
}

func (t *texter) prefix(at time.Duration, s source) {
	fmt.Fprintf(t.w, "%02d:%02d:%06.3f %d %-3s| ", int(at.Hours()), int(at.Minutes())%60, (at % time.Minute).Seconds(), s.ch, s)
}

// binaryData guesses by a chunk's beginning. It decides how data is shown here, nothing else.
func binaryData(b []byte) bool {
	b = b[:min(len(b), 512)]
	odd := 0
	for _, c := range b {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\b' && c != 0x1b && c != 7 {
			odd++
		}
	}
	return len(b) >= 16 && odd*10 > len(b)
}

// Describe says in one line of printable ASCII what an event is that isn't data.
func Describe(e transcript.Event) string {
	switch e.Kind {
	case transcript.KindOpen:
		o, err := transcript.ParseOpening(e.Data)
		if err != nil {
			break
		}
		s := fmt.Sprintf("%s opens channel %s: %s", o.From, plain(o.Type), o.Step)
		if len(o.Extra) > 0 && o.Step == transcript.Asked {
			s += " " + quote(o.Extra)
		}
		if o.Message != "" {
			s += ": " + plain(o.Message)
		}
		return s
	case transcript.KindRequest, transcript.KindGlobal:
		r, err := transcript.ParseRequest(e.Data)
		if err != nil {
			break
		}
		s := fmt.Sprintf("%s asks %s", r.From, plain(r.Type))
		if r.Step != transcript.Asked {
			s += ": " + r.Step.String()
		} else if p := payload(r); p != "" {
			s += " " + p
		}
		if r.Message != "" {
			s += ": " + plain(r.Message)
		}
		return s
	case transcript.KindEOF:
		if s, err := transcript.ParseSide(e.Data); err == nil {
			return s.String() + " sends end of file"
		}
	case transcript.KindClose:
		if s, err := transcript.ParseSide(e.Data); err == nil {
			return s.String() + " closes channel"
		}
	case transcript.KindWall:
		if t, err := transcript.ParseWall(e.Data); err == nil {
			return "wall clock " + t.Format(time.RFC3339Nano)
		}
	case transcript.KindAct:
		if a, err := transcript.ParseAction(e.Data); err == nil {
			return "jump: " + plain(a.Code) + " " + plain(a.Text)
		}
	case transcript.KindWatcher:
		if v, err := transcript.ParseWatching(e.Data); err == nil {
			if v.Joined {
				return plain(v.Person) + " watches"
			}
			return plain(v.Person) + " stops watching"
		}
	case transcript.KindMark:
		return "mark: " + plain(string(e.Data))
	}
	return fmt.Sprintf("%q %s", e.Kind, quote(e.Data))
}

// payload shows the requests of RFC 4254 section 6 in words.
func payload(r transcript.Request) string {
	p := r.Payload
	str := func() (string, bool) {
		if len(p) < 4 {
			return "", false
		}
		n := binary.BigEndian.Uint32(p)
		if uint64(n) > uint64(len(p)-4) {
			return "", false
		}
		s := string(p[4 : 4+n])
		p = p[4+n:]
		return s, true
	}
	switch r.Type {
	case "exec", "subsystem", "signal":
		if s, ok := str(); ok {
			return strconv.QuoteToASCII(s)
		}
	case "env":
		if k, ok := str(); ok {
			if v, ok := str(); ok {
				return plain(k) + "=" + strconv.QuoteToASCII(v)
			}
		}
	case "pty-req":
		if t, ok := ParsePty(p); ok {
			return fmt.Sprintf("%s %dx%d", t.Term, t.Cols, t.Rows)
		}
	case "window-change":
		if t, ok := ParseWindow(p); ok {
			return fmt.Sprintf("%dx%d", t.Cols, t.Rows)
		}
	case "exit-status":
		if len(p) == 4 {
			return strconv.FormatUint(uint64(binary.BigEndian.Uint32(p)), 10)
		}
	case "exit-signal":
		if s, ok := str(); ok {
			return plain(s)
		}
	}
	if len(p) == 0 {
		return ""
	}
	return quote(r.Payload)
}

// maxQuote bounds what one line shows of unknown bytes.
const maxQuote = 1024

func quote(b []byte) string {
	if len(b) > maxQuote {
		return strconv.QuoteToASCII(string(b[:maxQuote])) + fmt.Sprintf("… (%d bytes)", len(b))
	}
	return strconv.QuoteToASCII(string(b))
}

// plain is a string as printable ASCII without quotes.
func plain(s string) string {
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}
