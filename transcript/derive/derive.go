// Package derive reads out of a recording's raw bytes what people ask about first: which commands ran, which files went
// where, with which content.
//
// Guarantee, to the reviewer: what it reports was in the bytes. It doesn't promise the reverse. What a person does inside a
// shell, by a protocol it doesn't know, or under another program's name, it doesn't see; the recording has it all the same,
// and a review doesn't end here. Nothing in the trusted path depends on this package.
//
// The bytes come from people and hosts who may be hostile: a malformed stream gives a note and ends that channel's
// parsing. Memory is bounded by the limits below.
package derive

import (
	"encoding/binary"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"breakglass/transcript"
)

// Limits.
const (
	// maxChannels bounds what is reported of one connection; MaxSessions of a stock sshd is 10 at a time.
	maxChannels = 10_000
	// maxNotes bounds what a hostile stream can make us say.
	maxNotes = 1000
	// maxOps bounds the list of operations: an sftp of a million files.
	maxOps = 2_000_000
	// maxName bounds a command or a path that is reported.
	maxName = 64 << 10
)

// Channel is one channel of the connection.
type Channel struct {
	ID       uint32        `json:"id"`
	Opened   time.Duration `json:"opened"`
	Type     string        `json:"type"`
	Program  string        `json:"program,omitempty"` // shell, exec or subsystem
	Command  string        `json:"command,omitempty"` // of exec; the subsystem's name
	Pty      bool          `json:"pty,omitempty"`
	Exit     *uint32       `json:"exit,omitempty"`
	Signal   string        `json:"signal,omitempty"`
	BytesIn  int64         `json:"bytes_in"`
	BytesOut int64         `json:"bytes_out"` // stderr too
}

// Way is where a file went.
type Way string

const (
	ToHost   Way = "to-host"
	FromHost Way = "from-host"
)

// Transfer is a file's content that went over.
type Transfer struct {
	Channel uint32          `json:"channel"`
	Start   time.Duration   `json:"start"`
	End     time.Duration   `json:"end"`
	By      string          `json:"by"` // sftp or scp
	Way     Way             `json:"way"`
	Path    string          `json:"path"`
	Bytes   int64           `json:"bytes"`
	SHA256  transcript.Hash `json:"sha256"` // of the content from byte 0 on; only if Whole
	// Whole: the content is known without a gap, and was finished by whoever sent it.
	Whole bool `json:"whole"`
}

// Op is one operation on the host's files.
type Op struct {
	Channel uint32        `json:"channel"`
	T       time.Duration `json:"t"`
	Name    string        `json:"name"` // open, remove, rename …
	Path    string        `json:"path,omitempty"`
	Target  string        `json:"target,omitempty"` // of rename and symlink; attributes of setstat
	// Result is the host's answer: ok, or what it said.
	Result string `json:"result"`
}

// Note is something that couldn't be read.
type Note struct {
	Channel uint32        `json:"channel"`
	T       time.Duration `json:"t"`
	Text    string        `json:"text"`
}

// Report is what was found.
type Report struct {
	Channels  []Channel  `json:"channels"`
	Transfers []Transfer `json:"transfers"`
	Ops       []Op       `json:"ops"`
	Notes     []Note     `json:"notes,omitempty"`
}

// Options of Derive.
type Options struct {
	// Sink, if not nil, is handed each piece of a transferred file's content: its number in Report.Transfers, the offset
	// and the bytes, which are valid during the call.
	Sink func(transfer int, offset int64, data []byte) error
}

// Derive reads a recording.
func Derive(events iter.Seq2[transcript.Event, error], o Options) (*Report, error) {
	d := &deriver{o: o, r: &Report{}, channels: map[uint32]*channel{}}
	for e, err := range events {
		if err != nil {
			d.finish()
			return d.r, err
		}
		d.now = e.T
		d.event(e)
		if d.err != nil {
			return d.r, d.err
		}
	}
	d.finish()
	return d.r, d.err
}

// protocol reads what goes over a channel.
type protocol interface {
	fromPerson(b []byte) error
	fromHost(b []byte) error
	finish()
}

type channel struct {
	index int // in Report.Channels
	proto protocol
}

type deriver struct {
	o        Options
	r        *Report
	channels map[uint32]*channel
	now      time.Duration
	err      error
}

func (d *deriver) note(ch uint32, format string, args ...any) {
	if len(d.r.Notes) < maxNotes {
		d.r.Notes = append(d.r.Notes, Note{ch, d.now, fmt.Sprintf(format, args...)})
	}
}

// op reports an operation, and gives its place so that the answer can be filled in later; -1 if there are too many.
func (d *deriver) op(op Op) int {
	if len(d.r.Ops) >= maxOps {
		if len(d.r.Ops) == maxOps {
			d.note(op.Channel, "more than %d operations; later ones aren't listed", maxOps)
		}
		return -1
	}
	op.T, op.Path, op.Target = d.now, clip(op.Path), clip(op.Target)
	d.r.Ops = append(d.r.Ops, op)
	return len(d.r.Ops) - 1
}

func (d *deriver) result(i int, result string) {
	if i >= 0 {
		d.r.Ops[i].Result = result
	}
}

func clip(s string) string { return s[:min(len(s), maxName)] }

func (d *deriver) event(e transcript.Event) {
	switch e.Kind {
	case transcript.KindOpen:
		o, err := transcript.ParseOpening(e.Data)
		if err != nil || o.Step != transcript.Done || d.channels[e.Chan] != nil || len(d.channels) >= maxChannels {
			return
		}
		d.channels[e.Chan] = &channel{index: len(d.r.Channels)}
		d.r.Channels = append(d.r.Channels, Channel{ID: e.Chan, Opened: e.T, Type: clip(o.Type)})
		return
	}
	c := d.channels[e.Chan]
	if c == nil {
		return
	}
	info := &d.r.Channels[c.index]
	var err error
	switch e.Kind {
	case transcript.KindInput:
		info.BytesIn += int64(len(e.Data))
		if c.proto != nil {
			err = c.proto.fromPerson(e.Data)
		}
	case transcript.KindOutput:
		info.BytesOut += int64(len(e.Data))
		if c.proto != nil {
			err = c.proto.fromHost(e.Data)
		}
	case transcript.KindStderr:
		info.BytesOut += int64(len(e.Data))
	case transcript.KindRequest:
		if r, perr := transcript.ParseRequest(e.Data); perr == nil && r.Step == transcript.Asked {
			d.request(c, info, r)
		}
	}
	if err != nil {
		d.note(e.Chan, "%v; the rest of this channel isn't read", err)
		c.proto.finish()
		c.proto = nil
	}
}

func (d *deriver) request(c *channel, info *Channel, r transcript.Request) {
	p := wire{b: r.Payload}
	if r.From == transcript.FromHost {
		switch r.Type {
		case "exit-status":
			if v := p.u32(); !p.bad {
				info.Exit = &v
			}
		case "exit-signal":
			info.Signal = clip(p.str())
		}
		return
	}
	switch r.Type {
	case "pty-req":
		info.Pty = true
	case "shell", "exec", "subsystem":
		if info.Program != "" {
			return // a channel runs one program (RFC 4254 section 6.5)
		}
		info.Program, info.Command = r.Type, clip(p.str())
		if p.bad && r.Type != "shell" {
			d.note(info.ID, "%s without a name", r.Type)
		}
		switch {
		case r.Type == "subsystem" && info.Command == "sftp":
			c.proto = newSFTP(d, info.ID)
		case r.Type == "exec":
			c.proto = d.program(info.ID, info.Command)
		}
	}
}

// program guesses by an exec command which protocol follows. A wrong guess costs a note.
func (d *deriver) program(ch uint32, command string) protocol {
	words := strings.Fields(command)
	for i, w := range words {
		switch path.Base(w) {
		case "sftp-server", "internal-sftp":
			return newSFTP(d, ch)
		case "scp":
			var target string
			var way Way
			for _, a := range words[i+1:] {
				if !strings.HasPrefix(a, "-") {
					target = a
				} else if !strings.HasPrefix(a, "--") {
					if strings.Contains(a, "t") {
						way = ToHost
					} else if strings.Contains(a, "f") {
						way = FromHost
					}
				}
			}
			if way != "" {
				return newSCP(d, ch, way, target)
			}
		}
	}
	return nil
}

func (d *deriver) finish() {
	var cs []*channel
	for _, c := range d.channels {
		if c.proto != nil {
			cs = append(cs, c)
		}
	}
	slices.SortFunc(cs, func(a, b *channel) int { return a.index - b.index })
	for _, c := range cs {
		c.proto.finish()
	}
}

// wire reads the encodings of RFC 4251 section 5; the first fault makes it bad and everything after it zero.
type wire struct {
	b   []byte
	bad bool
}

func (w *wire) take(n uint64) []byte {
	if w.bad || n > uint64(len(w.b)) {
		w.bad = true
		return nil
	}
	r := w.b[:n]
	w.b = w.b[n:]
	return r
}

func (w *wire) u32() uint32 {
	if b := w.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (w *wire) u64() uint64 {
	if b := w.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (w *wire) bytes() []byte { return w.take(uint64(w.u32())) }
func (w *wire) str() string   { return string(w.bytes()) }
