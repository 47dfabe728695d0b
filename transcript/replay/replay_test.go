package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"breakglass/transcript"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

func TestFilter(t *testing.T) {
	for _, c := range []struct{ what, in, screen, text string }{
		{"plain text", "hello\r\n", "hello\r\n", "hello\n"},
		{"umlauts and wide characters", "grüße 漢字 👩\u200d🚒", "grüße 漢字 👩\u200d🚒", "grüße 漢字 👩\u200d🚒"},
		{"colours", "\x1b[1;31mred\x1b[38:2:1:2:3mx\x1b[m", "\x1b[1;31mred\x1b[38:2:1:2:3mx\x1b[m", "redx"},
		{"cursor", "\x1b[2J\x1b[H\x1b[10;20Hx\x1b[3A\x1b7\x1b8", "\x1b[2J\x1b[H\x1b[10;20Hx\x1b[3A\x1b7\x1b8", "x"},
		{"alternate screen", "\x1b[?1049h\x1b[?25l", "\x1b[?1049h\x1b[?25l", ""},
		{"the old alternate screen", "\x1b[?47h", "\x1b[?1049h", ""},
		{"several modes at once", "\x1b[?25;1000;2004h", "\x1b[?25h", ""},
		{"mouse", "\x1b[?1000h\x1b[?1006h", "", ""},
		{"bracketed paste", "\x1b[?2004h", "", ""},
		{"application cursor keys", "\x1b[?1h\x1b=", "", ""},
		{"title", "a\x1b]0;pwned\x07b", "ab", `a\e]0;pwned\x07b`},
		{"clipboard", "a\x1b]52;c;cm0gLXJm\x1b\\b", "ab", `a\e]52;c;cm0gLXJm\e\b`},
		{"hyperlink", "\x1b]8;;http://x\x1b\\link", "link", `\e]8;;http://x\e\link`},
		{"device control", "\x1bP$q\"p\x1b\\x", "x", `\eP$q"p\e\x`},
		{"device attributes", "\x1b[c\x1b[>c\x1b[0c", "", `\e[c\e[>c\e[0c`},
		{"report cursor", "\x1b[6n\x1b[?6n", "", `\e[6n\e[?6n`},
		{"window operations", "\x1b[21t\x1b[8;200;200t", "", `\e[21t\e[8;200;200t`},
		{"enquiry and bell", "a\x05\x07b", "ab", `a\x05b`},
		{"erase scrollback", "\x1b[3J", "", `\e[3J`},
		{"full reset", "\x1bc", "\x1b[m\x1b[r\x1b[2J\x1b[H", ""},
		{"soft reset", "\x1b[!p", "", `\e[!p`},
		{"cursor shape", "\x1b[5 q", "", `\e[5 q`},
		{"modify other keys", "\x1b[>4;2m", "", `\e[>4;2m`},
		{"private SGR", "\x1b[?4m", "", `\e[?4m`},
		{"repeat a billion times", "x\x1b[999999999b", "x", `x\e[999999999b`},
		{"mouse highlight", "\x1b[1;2;3;4;5T", "", `\e[1;2;3;4;5T`},
		{"print screen", "\x1b[5i\x1b[?5i", "", `\e[5i\e[?5i`},
		{"8-bit CSI as a byte", "a\x9b31mb", "a\uFFFD31mb", `a\x9b31mb`},
		{"8-bit CSI as a character", "a\u009b31mb", "a<U+9B>31mb", "a<U+9B>31mb"},
		{"bidi override", "a\u202eb\u2066", "a<U+202E>b<U+2066>", "a<U+202E>b<U+2066>"},
		{"zero width, tags", "a\u200bb\U000E0041", "a<U+200B>b<U+E0041>", "a<U+200B>b<U+E0041>"},
		{"not UTF-8", "a\xff\xc3(", "a\uFFFD\uFFFD(", `a\xff\xc3(`},
		{"line drawing", "\x1b(0lqk\x1b(Blqk", "┌─┐lqk", "┌─┐lqk"},
		{"line drawing by shift", "\x1b)0\x0ex\x0fx", "│x", "│x"},
		{"a UTF-8 switch", "\x1b%@x", "x", "x"},
		{"escape in a sequence", "\x1b[3\x1b[1mx", "\x1b[1mx", `\e[3x`},
		{"a line feed in a sequence", "\x1b[3\nx", "\nx", "\\e[3\nx"},
		{"a cancelled string", "\x1b]0;abc\x18x", "x", `\e]0;abc\x18x`},
		{"a string that an escape ends", "\x1b]0;abc\x1b[1mx", "\x1b[1mx", `\e]0;abcx`},
		{"a string that never ends", "\x1b]0;" + strings.Repeat("a", 2000), strings.Repeat("a", 980), `\e]0;` + strings.Repeat("a", 2000)},
		{"half a sequence at the end", "x\x1b[3", "x", `x\e[3`},
	} {
		for _, text := range []bool{false, true} {
			want := c.screen
			if text {
				want = c.text
			}
			f := Filter{text: text}
			got := f.Flush(f.Append(nil, []byte(c.in)))
			if string(got) != want {
				t.Errorf("%s, text %v: %q, want %q", c.what, text, got, want)
			}
			// In pieces of one byte it is the same.
			g := Filter{text: text}
			var pieces []byte
			for i := range len(c.in) {
				pieces = g.Append(pieces, []byte{c.in[i]})
			}
			if pieces = g.Flush(pieces); !bytes.Equal(pieces, got) {
				t.Errorf("%s, text %v, byte by byte: %q, want %q", c.what, text, pieces, got)
			}
		}
	}
}

// allowed is what may stand in the output, written down a second time.
var allowed = regexp.MustCompile(`^(?:[\n\r\t\x08]|\x1b[78DEM]|\x1b\[[0-9]{0,4}[A-GKXLMP@STZIbdae` + "`" + `]|\x1b\[[0-2]?J|\x1b\[[0-9]{1,4}J|\x1b\[(?:[0-9]{0,4}(?:;[0-9]{0,4})?)[Hfr]|\x1b\[[su]|\x1b\[[0-9:;]*m|\x1b\[4[hl]|\x1b\[\?(?:1049|6|7|25)[hl])`)

// judge demands that b is nothing but printable characters and allowed sequences.
func judge(b []byte) error {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r >= 0x20 && r != 0x7f && !hidden(r) && (r != utf8.RuneError || n > 1) {
			i += n
			continue
		}
		m := allowed.Find(b[i:])
		if m == nil || bytes.HasSuffix(m, []byte("[3J")) {
			return fmt.Errorf("%q at %d", b[i:min(len(b), i+20)], i)
		}
		i += len(m)
	}
	return nil
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"\x1b[1;31mred\x1b[m", "\x1b]52;c;x\x07", "\x1bP1$r\x1b\\", "\x1b[?1049h\x1b[?2004h", "\xc2\x9b6n", "\u202e", "\x1b(0qqq\x1b(B", "\x1b[999999999b", "\x1b\x1b[c", "a\x1b]0;\x1b", "\xe2\x80"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var one, two Filter
		whole := one.Append(nil, b)
		whole = append(one.Flush(whole), one.Reset()...)
		if err := judge(whole); err != nil {
			t.Errorf("let through: %v", err)
		}
		cut = max(0, min(cut, len(b)))
		pieces := two.Append(two.Append(nil, b[:cut]), b[cut:])
		pieces = append(two.Flush(pieces), two.Reset()...)
		if !bytes.Equal(whole, pieces) {
			t.Errorf("in pieces %q, whole %q", pieces, whole)
		}
		txt := Filter{text: true}
		for _, r := range string(txt.Flush(txt.Append(nil, b))) {
			if r == 0x1b || hidden(r) && r != '\n' && r != '\t' {
				t.Errorf("text holds %q", r)
			}
		}
	})
}

func events(es ...transcript.Event) Events {
	return func(yield func(transcript.Event, error) bool) {
		for _, e := range es {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func out(t time.Duration, ch uint32, s string) transcript.Event {
	return transcript.Event{T: t, Kind: transcript.KindOutput, Chan: ch, Data: []byte(s)}
}

func sshString(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func request(t time.Duration, ch uint32, from transcript.Side, typ string, payload []byte) transcript.Event {
	return transcript.Event{T: t, Kind: transcript.KindRequest, Chan: ch, Data: transcript.Request{From: from, Type: typ, Want: true, Payload: payload}.Encode()}
}

func window(cols, rows uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, cols)
	b = binary.BigEndian.AppendUint32(b, rows)
	return append(b, make([]byte, 8)...)
}

// stamps writes down when what came.
type stamps struct {
	start time.Time
	got   []string
}

func (s *stamps) Write(b []byte) (int, error) {
	s.got = append(s.got, fmt.Sprintf("%v %s", time.Since(s.start), b))
	return len(b), nil
}

func TestPlay(t *testing.T) {
	rec := events(
		out(time.Second, 1, "a"), out(time.Second, 2, "other"), out(3*time.Second, 1, "b"),
		transcript.Event{T: 4 * time.Second, Kind: transcript.KindInput, Chan: 1, Data: []byte("typed")},
		out(63*time.Second, 1, "c"))
	reset := string((&Filter{}).Reset())
	for _, c := range []struct {
		what string
		o    Options
		want []string
	}{
		{"as it was", Options{}, []string{"1s a", "3s b", "1m3s c", "1m3s " + reset}},
		{"twice as fast", Options{Speed: 2}, []string{"500ms a", "1.5s b", "31.5s c", "31.5s " + reset}},
		{"pauses cut", Options{IdleLimit: 2 * time.Second}, []string{"1s a", "3s b", "5s c", "5s " + reset}},
		{"from a time on", Options{From: 62 * time.Second}, []string{"0s a", "0s b", "1s c", "1s " + reset}},
		{"another channel", Options{Channel: 2}, []string{"1s other", "1s " + reset}},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &stamps{start: time.Now()}
				if err := Play(t.Context(), w, rec, c.o); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(c.want, w.got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// The end of origin mode moves the cursor home, and what is printed next would lie over the recording.
func TestResetKeepsTheCursor(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "\x1b7\x1b[r\x1b8\x1b[4l\x1b[?7h\x1b[?25h\x1b[m"},
		{"\x1b[?6h\x1b[?6l", "\x1b[?6l\x1b[r\x1b[999H\x1b[4l\x1b[?7h\x1b[?25h\x1b[m"},
	} {
		var f Filter
		f.Append(nil, []byte(c.in))
		if got := string(f.Reset()); got != c.want {
			t.Errorf("after %q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestPlayAlwaysResets(t *testing.T) {
	bad := errors.New("stream broken")
	broken := func(yield func(transcript.Event, error) bool) {
		if yield(out(0, 1, "\x1b[?1049h\x1b[31mhalf\x1b["), nil) {
			yield(transcript.Event{}, bad)
		}
	}
	var b bytes.Buffer
	if err := Play(t.Context(), &b, broken, Options{}); err != bad {
		t.Errorf("got %v", err)
	}
	if !strings.HasSuffix(b.String(), "half\x1b[?1049l"+string((&Filter{}).Reset())) {
		t.Errorf("wrote %q", b.String())
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		var b bytes.Buffer
		if err := Play(ctx, &b, events(out(0, 1, "a"), out(time.Hour, 1, "b")), Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if want := "a" + string((&Filter{}).Reset()); b.String() != want {
			t.Errorf("wrote %q", b.String())
		}
	})
}

func recording() Events {
	in := func(t time.Duration, s string) transcript.Event {
		return transcript.Event{T: t, Kind: transcript.KindInput, Chan: 1, Data: []byte(s)}
	}
	return events(
		transcript.Event{Kind: transcript.KindWall, Data: transcript.EncodeWall(time.UnixMicro(1_795_000_000_000_000))},
		transcript.Event{T: 1e6, Kind: transcript.KindAct, Data: transcript.Action{Code: "host.connected", Text: "198.51.100.7:22"}.Encode()},
		transcript.Event{T: 2e6, Kind: transcript.KindOpen, Chan: 1, Data: transcript.Opening{From: transcript.FromPerson, Type: "session"}.Encode()},
		request(3e6, 1, transcript.FromPerson, "pty-req", append(sshString("xterm-256color"), append(window(100, 30), sshString("")...)...)),
		request(4e6, 1, transcript.FromPerson, "env", append(sshString("LANG"), sshString("C.UTF-8")...)),
		request(5e6, 1, transcript.FromPerson, "shell", nil),
		out(1e9, 1, "\x1b]0;root@web01\x07\x1b[1mroot@web01\x1b[m:~# "),
		in(2e9, "l"), in(21e8, "s\r"), out(22e8, 1, "ls\r\n"), out(23e8, 1, "caf\xc3"), out(24e8, 1, "\xa9.txt\r\n"),
		request(3e9, 1, transcript.FromPerson, "window-change", window(120, 40)),
		transcript.Event{T: 31e8, Kind: transcript.KindStderr, Chan: 1, Data: []byte("warn\x05ing\r\n")},
		out(35e8, 1, strings.Repeat("\x00\x01\x02\x03", 100)),
		transcript.Event{T: 36e8, Kind: transcript.KindWatcher, Data: transcript.Watching{Joined: true, Person: "bob"}.Encode()},
		transcript.Event{T: 37e8, Kind: transcript.KindMark, Data: []byte("look\x1b[31m here")},
		transcript.Event{T: 38e8, Kind: transcript.KindGlobal, Data: transcript.Request{From: transcript.FromPerson, Type: "tcpip-forward", Payload: []byte{1, 0xff}}.Encode()},
		request(4e9, 1, transcript.FromHost, "exit-status", []byte{0, 0, 0, 7}),
		transcript.Event{T: 41e8, Kind: transcript.KindEOF, Chan: 1, Data: []byte{2}},
		transcript.Event{T: 65e9, Kind: transcript.KindClose, Chan: 1, Data: []byte{1}},
	)
}

var header = transcript.Header{Session: "k7f-2mq/1", Person: "alice", Login: "root", Host: "web01", T0: 1_795_000_000_000_000}

// golden compares with a file that is written once; UPDATE=1 writes what is missing.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	p := filepath.Join("testdata", "v1", file)
	want, err := os.ReadFile(p)
	if os.IsNotExist(err) && os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		want, err = got, os.WriteFile(p, got, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := Text(&b, recording()); err != nil {
		t.Fatal(err)
	}
	golden(t, "session.txt", b.Bytes())
}

func TestAsciicast(t *testing.T) {
	var b bytes.Buffer
	if err := Asciicast(&b, header, recording(), 0); err != nil {
		t.Fatal(err)
	}
	golden(t, "session.cast", b.Bytes())

	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	var h map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &h); err != nil || h["version"] != 2.0 || h["width"] != 100.0 || h["height"] != 30.0 {
		t.Errorf("header %v, %v", h, err)
	}
	last := 0.0
	for _, l := range lines[1:] {
		var e []any
		if err := json.Unmarshal([]byte(l), &e); err != nil || len(e) != 3 {
			t.Fatalf("%s: %v", l, err)
		}
		at, ok1 := e[0].(float64)
		code, ok2 := e[1].(string)
		data, ok3 := e[2].(string)
		if !ok1 || !ok2 || !ok3 || at < last || code != "o" && code != "r" {
			t.Errorf("event %s", l)
		}
		last = at
		if code == "o" {
			if err := judge([]byte(data)); err != nil {
				t.Errorf("event %s: %v", l, err)
			}
		}
	}

	// asciinema itself, where it is installed.
	tool, err := exec.LookPath("asciinema")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("asciinema is missing: make deps")
		}
		t.Log("asciinema isn't installed: checked the JSON only")
		return
	}
	file := filepath.Join(t.TempDir(), "session.cast")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"cat", file}, {"play", "--speed", "100", "--idle-time-limit", "0.01", file}} {
		asciinema(t, tool, args)
	}
}

// asciinema shows a cast, as a person would see it.
func asciinema(t *testing.T, tool string, args []string) {
	t.Helper()
	cmd := exec.Command(tool, args...)
	cmd.Env = append(os.Environ(), "ASCIINEMA_CONFIG_HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	tty, err := pty.Start(cmd) // asciinema wants a terminal of its own
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	got, _ := io.ReadAll(tty) // ends with EIO when the other side is closed
	err = cmd.Wait()
	if err != nil || !bytes.Contains(got, []byte("café.txt")) {
		t.Errorf("asciinema %q: %v: %q", args, err, got)
	}
}

func TestExportsPassErrorsOn(t *testing.T) {
	bad := errors.New("stream broken")
	broken := func(yield func(transcript.Event, error) bool) {
		if yield(out(0, 1, "half"), nil) {
			yield(transcript.Event{}, bad)
		}
	}
	var b bytes.Buffer
	if err := Text(&b, broken); err != bad || !strings.Contains(b.String(), "half") {
		t.Errorf("Text: %v, %q", err, b.String())
	}
	if err := Asciicast(&b, header, broken, 0); err != bad {
		t.Errorf("Asciicast: %v", err)
	}
}
