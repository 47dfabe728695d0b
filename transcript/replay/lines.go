package replay

import (
	"bytes"
	"iter"
	"time"

	"breakglass/transcript"
)

// Line is a line of a recording's text, or an event that isn't data in words.
type Line struct {
	T       time.Duration // of its end
	Channel uint32
	Kind    transcript.Kind
	Text    string
}

// Source names who said it: in, out, err, or -- for what isn't data.
func (l Line) Source() string { return source{l.Channel, l.Kind}.String() }

const (
	// maxLine ends a line that never ends, as of programs that draw a screen; carry of it is kept, so that a word isn't cut in two.
	maxLine = 8 << 10
	carry   = 256
)

// Lines gives the recording as lines of plain text, each direction of each channel for itself: what a person typed and what the host echoed of it lie
// between each other in time, and are two texts. Colours and cursor movements vanish, so that words stay whole. Data that is no text is left out.
func Lines(events Events) iter.Seq2[Line, error] {
	type text struct {
		f    Filter
		line []byte
		last time.Duration
	}
	return func(yield func(Line, error) bool) {
		texts := map[source]*text{}
		var order []source
		say := func(s source, t time.Duration, b []byte) bool {
			return len(bytes.TrimSpace(b)) == 0 || yield(Line{t, s.ch, s.kind, string(b)}, nil)
		}
		for e, err := range events {
			if err != nil {
				yield(Line{}, err)
				return
			}
			s := source{e.Chan, e.Kind}
			switch e.Kind {
			case transcript.KindInput, transcript.KindOutput, transcript.KindStderr:
			default:
				if !yield(Line{e.T, e.Chan, e.Kind, Describe(e)}, nil) {
					return
				}
				continue
			}
			if binaryData(e.Data) {
				continue
			}
			x := texts[s]
			if x == nil {
				x = &text{f: Filter{text: true}}
				texts[s] = x
				order = append(order, s)
			}
			data := e.Data
			if e.Kind == transcript.KindInput {
				data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
			}
			x.last = e.T
			x.line = x.f.Append(x.line, data)
			for {
				i := bytes.IndexByte(x.line, '\n')
				if i < 0 {
					break
				}
				if !say(s, e.T, x.line[:i]) {
					return
				}
				x.line = x.line[i+1:]
			}
			if len(x.line) > maxLine {
				if !say(s, e.T, x.line) {
					return
				}
				x.line = append([]byte(nil), x.line[len(x.line)-carry:]...)
			}
		}
		for _, s := range order {
			x := texts[s]
			if !say(s, x.last, x.f.Flush(x.line)) {
				return
			}
		}
	}
}
