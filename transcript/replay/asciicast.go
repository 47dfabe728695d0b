package replay

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"breakglass/transcript"
)

// castHeader is the first line of an asciicast v2 file (docs.asciinema.org/manual/asciicast/v2).
type castHeader struct {
	Version   int               `json:"version"`
	Width     uint32            `json:"width"`
	Height    uint32            `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Title     string            `json:"title"`
	Env       map[string]string `json:"env,omitempty"`
}

// Size of a terminal that nobody named, and the largest that is believed.
const (
	defaultCols, defaultRows = 80, 24
	maxCols, maxRows         = 1000, 1000
)

// Asciicast writes one channel's output as asciicast v2; channel 0 is the first on which the host says anything. It is an
// export: JSON can't hold the bytes that aren't characters, and sequences that could harm a viewer are left out.
func Asciicast(w io.Writer, h transcript.Header, events Events, channel uint32) error {
	bw := bufio.NewWriter(w)
	cols, rows, term := uint32(defaultCols), uint32(defaultRows), ""
	size := map[uint32]Pty{} // until the channel is known
	started := false
	var f Filter
	line := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		bw.Write(b)
		return bw.WriteByte('\n')
	}
	start := func() error {
		started = true
		if p, ok := size[channel]; ok {
			cols, rows, term = p.Cols, p.Rows, p.Term
		}
		ch := castHeader{Version: 2, Width: cols, Height: rows, Timestamp: time.UnixMicro(h.T0).Unix(),
			Title: fmt.Sprintf("%s %s@%s by %s", h.Session, h.Login, h.Host, h.Person)}
		if term != "" {
			ch.Env = map[string]string{"TERM": term}
		}
		return line(ch)
	}
	var last time.Duration
	for e, err := range events {
		if err != nil {
			return err
		}
		last = e.T
		switch e.Kind {
		case transcript.KindRequest:
			r, err := transcript.ParseRequest(e.Data)
			if err != nil || r.Step != transcript.Asked || r.From != transcript.FromPerson {
				continue
			}
			if r.Type == "pty-req" && !started {
				if p, ok := ParsePty(r.Payload); ok {
					size[e.Chan] = p
				}
			}
			if r.Type == "window-change" {
				p, ok := ParseWindow(r.Payload)
				switch {
				case !ok:
				case !started:
					if old, ok := size[e.Chan]; ok {
						p.Term = old.Term
					}
					size[e.Chan] = p
				case e.Chan == channel:
					if err := line([]any{e.T.Seconds(), "r", fmt.Sprintf("%dx%d", p.Cols, p.Rows)}); err != nil {
						return err
					}
				}
			}
		case transcript.KindOutput, transcript.KindStderr:
			if !started {
				if channel == 0 {
					channel = e.Chan
				}
				if err := start(); err != nil {
					return err
				}
			}
			if e.Chan != channel {
				continue
			}
			if b := f.Append(nil, e.Data); len(b) > 0 {
				if err := line([]any{e.T.Seconds(), "o", string(b)}); err != nil {
					return err
				}
			}
		}
	}
	if !started {
		if err := start(); err != nil {
			return err
		}
	}
	if err := line([]any{last.Seconds(), "o", string(append(f.Flush(nil), f.castEnd()...))}); err != nil {
		return err
	}
	return bw.Flush()
}

// Pty is a terminal as the person's client described it.
type Pty struct {
	Term       string
	Cols, Rows uint32
}

// ParsePty reads the payload of a pty-req (RFC 4254 section 6.2).
func ParsePty(b []byte) (Pty, bool) {
	if len(b) < 4 {
		return Pty{}, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) || n > 64 {
		return Pty{}, false
	}
	p, ok := ParseWindow(b[4+n:])
	p.Term = string(appendEscaped(nil, b[4:4+n]))
	return p, ok
}

// ParseWindow reads the payload of a window-change (RFC 4254 section 6.7). Sizes are cut to what a terminal can be.
func ParseWindow(b []byte) (Pty, bool) {
	if len(b) < 16 {
		return Pty{}, false
	}
	p := Pty{Cols: binary.BigEndian.Uint32(b), Rows: binary.BigEndian.Uint32(b[4:])}
	if p.Cols == 0 || p.Rows == 0 {
		p.Cols, p.Rows = defaultCols, defaultRows
	}
	p.Cols, p.Rows = min(p.Cols, maxCols), min(p.Rows, maxRows)
	return p, true
}

// castEnd is Reset as the first casts had it, cursor home and all: a player has a screen of its own, and the bytes of an
// export don't change.
func (f *Filter) castEnd() []byte {
	var b []byte
	if f.alt {
		b = append(b, "\x1b[?1049l"...)
	}
	return append(b, "\x1b[?6l\x1b7\x1b[r\x1b8\x1b[4l\x1b[?7h\x1b[?25h\x1b[m"...)
}
