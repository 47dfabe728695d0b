package derive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"breakglass/transcript"

	"github.com/google/go-cmp/cmp"
)

type log struct {
	mu sync.Mutex
	es []transcript.Event
	t  time.Duration
}

func (l *log) add(k transcript.Kind, ch uint32, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t += time.Millisecond
	l.es = append(l.es, transcript.Event{T: l.t, Kind: k, Chan: ch, Data: bytes.Clone(data)})
}

func (l *log) open(ch uint32, typ, name string) {
	l.add(transcript.KindOpen, ch, transcript.Opening{Step: transcript.Done, From: transcript.FromPerson, Type: "session"}.Encode())
	l.add(transcript.KindRequest, ch, transcript.Request{From: transcript.FromPerson, Type: typ, Payload: str(name)}.Encode())
}

func (l *log) events() iter.Seq2[transcript.Event, error] {
	return func(yield func(transcript.Event, error) bool) {
		for _, e := range l.es {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (l *log) derive(t testing.TB) *Report {
	t.Helper()
	r, err := Derive(l.events(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func str(s string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func packet(typ byte, parts ...[]byte) []byte {
	return str(string([]byte{typ}) + string(bytes.Join(parts, nil)))
}

func TestChannels(t *testing.T) {
	var l log
	l.open(1, "exec", "uptime -p")
	l.add(transcript.KindInput, 1, []byte("ab"))
	l.add(transcript.KindOutput, 1, []byte("abc"))
	l.add(transcript.KindStderr, 1, []byte("d"))
	l.add(transcript.KindRequest, 1, transcript.Request{From: transcript.FromHost, Type: "exit-status", Payload: u32(3)}.Encode())
	l.add(transcript.KindOpen, 2, transcript.Opening{Step: transcript.Denied, From: transcript.FromPerson, Type: "x11"}.Encode())
	l.add(transcript.KindOpen, 3, transcript.Opening{Step: transcript.Done, From: transcript.FromPerson, Type: "session"}.Encode())
	l.add(transcript.KindRequest, 3, transcript.Request{From: transcript.FromPerson, Type: "pty-req"}.Encode())
	l.add(transcript.KindRequest, 3, transcript.Request{From: transcript.FromPerson, Type: "shell"}.Encode())
	l.add(transcript.KindRequest, 3, transcript.Request{From: transcript.FromHost, Type: "exit-signal", Payload: str("KILL")}.Encode())
	three := uint32(3)
	want := []Channel{
		{ID: 1, Opened: 1e6, Type: "session", Program: "exec", Command: "uptime -p", Exit: &three, BytesIn: 2, BytesOut: 4},
		{ID: 3, Opened: 8e6, Type: "session", Program: "shell", Pty: true, Signal: "KILL"},
	}
	r := l.derive(t)
	if d := cmp.Diff(want, r.Channels); d != "" {
		t.Error(d)
	}
	if len(r.Notes) != 0 {
		t.Error(r.Notes)
	}
}

func TestSFTP(t *testing.T) {
	var l log
	l.open(1, "subsystem", "sftp")
	in := func(p []byte) { l.add(transcript.KindInput, 1, p) }
	out := func(p []byte) { l.add(transcript.KindOutput, 1, p) }
	ok := func(id uint32) { out(packet(fxpStatus, u32(id), u32(0), str(""), str(""))) }
	in(packet(fxpInit, u32(3)))
	out(packet(fxpVersion, u32(3)))
	// An upload whose pieces come out of order, one of them refused and sent again.
	in(packet(fxpOpen, u32(1), str("/tmp/up"), u32(fxfWrite|8), u32(0)))
	out(packet(fxpHandle, u32(1), str("h")))
	in(append(packet(fxpWrite, u32(2), str("h"), u64(5), str("world")), packet(fxpWrite, u32(3), str("h"), u64(0), str("nope!"))...))
	ok(2)
	out(packet(fxpStatus, u32(3), u32(4), str(""), str("")))
	in(packet(fxpWrite, u32(4), str("h"), u64(0), str("hello")))
	ok(4)
	in(packet(fxpClose, u32(5), str("h")))
	ok(5)
	// A download, its packets in pieces.
	p := packet(fxpOpen, u32(6), str("/etc/passwd"), u32(fxfRead), u32(0))
	in(p[:7])
	in(p[7:])
	out(packet(fxpHandle, u32(6), str("h")))
	in(packet(fxpRead, u32(7), str("h"), u64(0), u32(100)))
	q := packet(fxpData, u32(7), str("root:x:0:0"))
	out(q[:5])
	out(q[5:])
	in(packet(fxpRead, u32(8), str("h"), u64(10), u32(100)))
	out(packet(fxpStatus, u32(8), u32(1), str("EOF"), str("")))
	// The rest.
	in(packet(fxpRename, u32(9), str("/a"), str("/b")))
	ok(9)
	in(packet(fxpExtended, u32(10), str("posix-rename@openssh.com"), str("/c"), str("/d")))
	ok(10)
	in(packet(fxpRemove, u32(11), str("/etc/shadow")))
	out(packet(fxpStatus, u32(11), u32(3), str(""), str("")))
	in(packet(fxpSetstat, u32(12), str("/b"), u32(4), u32(0o100755)))
	ok(12)
	in(packet(fxpSymlink, u32(13), str("target"), str("/link")))
	ok(13)
	in(packet(fxpMkdir, u32(14), str("/dir"), u32(0)))

	r := l.derive(t)
	type op struct{ name, path, target, result string }
	var ops []op
	for _, o := range r.Ops {
		ops = append(ops, op{o.Name, o.Path, o.Target, o.Result})
	}
	if d := cmp.Diff([]op{
		{"open to write", "/tmp/up", "", "ok"},
		{"open to read", "/etc/passwd", "", "ok"},
		{"rename", "/a", "/b", "ok"},
		{"rename", "/c", "/d", "ok"},
		{"remove", "/etc/shadow", "", "permission denied"},
		{"set attributes", "/b", "mode 0755", "ok"},
		{"symlink", "/link", "target", "ok"},
		{"make directory", "/dir", "", "no answer"},
	}, ops, cmp.AllowUnexported(op{})); d != "" {
		t.Error(d)
	}
	if len(r.Transfers) != 2 || len(r.Notes) != 0 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []Transfer{
		{Channel: 1, By: "sftp", Way: ToHost, Path: "/tmp/up", Bytes: 10, Whole: true, SHA256: transcript.SHA256([]byte("helloworld"))},
		{Channel: 1, By: "sftp", Way: FromHost, Path: "/etc/passwd", Bytes: 10, Whole: false, SHA256: transcript.SHA256([]byte("root:x:0:0"))},
	} {
		got := r.Transfers[i]
		got.Start, got.End = 0, 0
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func TestSCP(t *testing.T) {
	var l log
	l.open(1, "exec", "scp -r -t /tmp")
	l.add(transcript.KindOutput, 1, []byte{0})
	l.add(transcript.KindInput, 1, []byte("T1 0 1 0\nD0755 0 sub\nC0644 5 a b.txt\nhel"))
	l.add(transcript.KindInput, 1, []byte("lo\x00C0600 0 empty\n\x00E\n"))
	l.add(transcript.KindInput, 1, []byte("\x01scp: cannot read x\nC0600 100 cut\nhalf"))
	l.open(2, "exec", "sudo /usr/bin/scp -pf -- /etc/x")
	l.add(transcript.KindOutput, 2, []byte("C0644 2 x\nok"))
	l.add(transcript.KindOutput, 2, []byte{0})
	r := l.derive(t)
	var got []string
	for _, tr := range r.Transfers {
		got = append(got, fmt.Sprintf("%d %s %s %d %v", tr.Channel, tr.Way, tr.Path, tr.Bytes, tr.Whole))
	}
	if d := cmp.Diff([]string{"1 to-host sub/a b.txt 5 true", "1 to-host sub/empty 0 true", "1 to-host cut 4 false", "2 from-host x 2 true"}, got); d != "" {
		t.Error(d)
	}
	if r.Transfers[0].SHA256 != transcript.SHA256([]byte("hello")) || r.Transfers[1].SHA256 != transcript.SHA256(nil) {
		t.Error("hashes are wrong")
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0].Text, "cannot read x") {
		t.Error(r.Notes)
	}
}

func TestMalformedIsANote(t *testing.T) {
	for _, c := range []struct {
		what      string
		typ, name string
		in, out   []byte
	}{
		{"a packet of 4 GiB", "subsystem", "sftp", []byte{255, 255, 255, 255, 1}, nil},
		{"an empty packet", "subsystem", "sftp", []byte{0, 0, 0, 0}, nil},
		{"a short packet", "subsystem", "sftp", packet(fxpOpen, u32(1), u32(99)), nil},
		{"an unknown type", "subsystem", "sftp", packet(77, u32(1)), nil},
		{"an answer to nothing", "subsystem", "sftp", nil, packet(fxpStatus, u32(1), u32(0))},
		{"one request twice", "subsystem", "sftp", append(packet(fxpStat, u32(1), str("a")), packet(fxpStat, u32(1), str("a"))...), nil},
		{"a shell instead of scp", "exec", "scp -t x; bash", []byte("ls -l\n"), nil},
		{"a negative size", "exec", "scp -t x", []byte("C0644 -5 a\n"), nil},
		{"too many ends", "exec", "scp -t x", []byte("E\n"), nil},
		{"an endless line", "exec", "scp -t x", bytes.Repeat([]byte("C"), maxLine+1), nil},
	} {
		var l log
		l.open(1, c.typ, c.name)
		l.add(transcript.KindInput, 1, c.in)
		l.add(transcript.KindOutput, 1, c.out)
		l.add(transcript.KindInput, 1, c.in) // nothing more is read
		if r := l.derive(t); len(r.Notes) != 1 {
			t.Errorf("%s: notes %v", c.what, r.Notes)
		}
	}
}

func TestRewrittenFilesHaveNoHash(t *testing.T) {
	for _, c := range []struct {
		what  string
		flags uint32
		offs  []uint64
		whole bool
	}{
		{"in order", fxfWrite, []uint64{0, 4, 8}, true},
		{"backwards", fxfWrite, []uint64{8, 4, 0}, true},
		{"a gap", fxfWrite, []uint64{0, 8}, false},
		{"twice", fxfWrite, []uint64{0, 0}, false},
		{"twice ahead", fxfWrite, []uint64{8, 8}, false},
		{"appended", fxfWrite | fxfAppend, []uint64{0}, false},
		{"beyond any file", fxfWrite, []uint64{1<<64 - 1}, false},
	} {
		var l log
		l.open(1, "subsystem", "sftp")
		l.add(transcript.KindInput, 1, packet(fxpOpen, u32(0), str("f"), u32(c.flags), u32(0)))
		l.add(transcript.KindOutput, 1, packet(fxpHandle, u32(0), str("h")))
		for i, off := range c.offs {
			l.add(transcript.KindInput, 1, packet(fxpWrite, u32(uint32(i+1)), str("h"), u64(off), str("data")))
			l.add(transcript.KindOutput, 1, packet(fxpStatus, u32(uint32(i+1)), u32(0)))
		}
		l.add(transcript.KindInput, 1, packet(fxpClose, u32(99), str("h")))
		l.add(transcript.KindOutput, 1, packet(fxpStatus, u32(99), u32(0)))
		r := l.derive(t)
		if len(r.Transfers) != 1 || r.Transfers[0].Whole != c.whole {
			t.Errorf("%s: %+v %v", c.what, r.Transfers, r.Notes)
		}
		if !c.whole && r.Transfers[0].SHA256 != (transcript.Hash{}) {
			t.Errorf("%s: has a hash", c.what)
		}
	}
}

// TestStockSFTP records stock sftp talking to stock sftp-server.
func TestStockSFTP(t *testing.T) {
	client, err := exec.LookPath("sftp")
	server := "/usr/lib/openssh/sftp-server"
	if _, serr := os.Stat(server); err != nil || serr != nil {
		t.Skip("no OpenSSH sftp and sftp-server here")
	}
	dir := t.TempDir()
	content := make([]byte, 700_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	local := filepath.Join(dir, "local")
	if err := os.WriteFile(local, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var l log
	l.open(1, "subsystem", "sftp")
	batch := fmt.Sprintf("put %s %s/up\nget %s/up %s/down\nmkdir %s/d\nrename %s/up %s/d/x\nrm %s/d/x\n", local, dir, dir, dir, dir, dir, dir, dir)

	// sftp -D runs a server directly: here one whose both directions are kept.
	inLog, outLog := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	script := filepath.Join(dir, "tee.sh")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\ntee %s | %s | tee %s\n", inLog, server, outLog), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(client, "-b", "-", "-D", script)
	cmd.Stdin = strings.NewReader(batch)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	in, _ := os.ReadFile(inLog)
	out, _ := os.ReadFile(outLog)
	// The two logs have lost their common order.
	feed(&l, in, out)
	rep := l.derive(t)
	if len(rep.Notes) != 0 {
		t.Fatal(rep.Notes)
	}
	want := transcript.SHA256(content)
	if len(rep.Transfers) != 2 {
		t.Fatalf("%+v", rep.Transfers)
	}
	for i, way := range []Way{ToHost, FromHost} {
		if tr := rep.Transfers[i]; tr.Way != way || tr.SHA256 != want || !tr.Whole || tr.Bytes != int64(len(content)) {
			t.Errorf("%+v", tr)
		}
	}
	var names []string
	for _, o := range rep.Ops {
		if o.Name == "rename" || o.Name == "remove" || o.Name == "make directory" {
			names = append(names, o.Name+" "+o.Result)
		}
	}
	if d := cmp.Diff([]string{"make directory ok", "rename ok", "remove ok"}, names); d != "" {
		t.Error(d)
	}
}

// feed puts two logs in an order that could have been: each answer right after its request.
func feed(l *log, in, out []byte) {
	split := func(b []byte) (ps [][]byte) {
		for len(b) >= 4 {
			n := 4 + binary.BigEndian.Uint32(b)
			ps = append(ps, b[:n])
			b = b[n:]
		}
		return ps
	}
	id := func(p []byte) uint32 { return binary.BigEndian.Uint32(p[5:]) }
	answers := map[uint32][][]byte{}
	for _, p := range split(out) {
		answers[id(p)] = append(answers[id(p)], p)
	}
	for _, p := range split(in) {
		l.add(transcript.KindInput, 1, p)
		if as := answers[id(p)]; len(as) > 0 {
			l.add(transcript.KindOutput, 1, as[0])
			answers[id(p)] = as[1:]
		}
	}
}

func TestSinkAndErrors(t *testing.T) {
	var l log
	l.open(1, "exec", "scp -t /tmp")
	l.add(transcript.KindInput, 1, []byte("C0644 10 f\n01234"))
	l.add(transcript.KindInput, 1, []byte("56789\x00"))
	var got []byte
	if _, err := Derive(l.events(), Options{Sink: func(i int, off int64, b []byte) error {
		if i != 0 || off != int64(len(got)) {
			t.Errorf("piece of %d at %d", i, off)
		}
		got = append(got, b...)
		return nil
	}}); err != nil || string(got) != "0123456789" {
		t.Errorf("%q, %v", got, err)
	}
	full := errors.New("disk full")
	if _, err := Derive(l.events(), Options{Sink: func(int, int64, []byte) error { return full }}); err != full {
		t.Errorf("got %v", err)
	}
	broken := func(yield func(transcript.Event, error) bool) {
		for _, e := range l.es[:3] {
			if !yield(e, nil) {
				return
			}
		}
		yield(transcript.Event{}, io.ErrUnexpectedEOF)
	}
	r, err := Derive(broken, Options{})
	if err != io.ErrUnexpectedEOF || len(r.Transfers) != 1 || r.Transfers[0].Whole {
		t.Errorf("%+v, %v", r, err)
	}
}

// steps feeds fuzzed bytes in both directions: the first byte of each piece says which way and how much.
func steps(l *log, b []byte) {
	for len(b) > 0 {
		n := min(int(b[0]>>1)+1, len(b)-1)
		k := transcript.KindInput
		if b[0]&1 == 1 {
			k = transcript.KindOutput
		}
		l.add(k, 1, b[1:1+n])
		b = b[1+n:]
	}
}

func piece(host byte, b []byte) (out []byte) {
	for len(b) > 0 {
		n := min(len(b), 128)
		out = append(out, byte(n-1)<<1|host)
		out = append(out, b[:n]...)
		b = b[n:]
	}
	return out
}

func sane(t *testing.T, l *log) {
	r, err := Derive(l.events(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var data int64
	for _, c := range r.Channels {
		data += c.BytesIn + c.BytesOut
	}
	var moved int64
	for _, tr := range r.Transfers {
		if tr.Whole && tr.SHA256 == (transcript.Hash{}) {
			t.Errorf("whole without a hash: %+v", tr)
		}
		moved += tr.Bytes
	}
	if moved > data {
		t.Errorf("%d bytes of files in %d bytes", moved, data)
	}
}

func FuzzSFTP(f *testing.F) {
	var s []byte
	s = append(s, piece(0, packet(fxpInit, u32(3)))...)
	s = append(s, piece(0, packet(fxpOpen, u32(1), str("/f"), u32(2), u32(0)))...)
	s = append(s, piece(1, packet(fxpHandle, u32(1), str("h")))...)
	s = append(s, piece(0, packet(fxpWrite, u32(2), str("h"), u64(0), str("data")))...)
	s = append(s, piece(1, packet(fxpStatus, u32(2), u32(0)))...)
	s = append(s, piece(0, packet(fxpClose, u32(3), str("h")))...)
	s = append(s, piece(1, packet(fxpStatus, u32(3), u32(0)))...)
	f.Add(s)
	f.Add(piece(0, packet(fxpExtended, u32(1), str("copy-data"), str("a"), u64(0), u64(0), str("b"), u64(0))))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l log
		l.open(1, "subsystem", "sftp")
		steps(&l, b)
		sane(t, &l)
	})
}

func FuzzSCP(f *testing.F) {
	f.Add(piece(0, []byte("T1 0 1 0\nD0755 0 sub\nC0644 5 a\nhello\x00E\n")), "scp -r -t /tmp")
	f.Add(piece(1, []byte("C0644 2 x\nok\x00\x01err\n")), "scp -f x")
	f.Fuzz(func(t *testing.T, b []byte, command string) {
		var l log
		l.open(1, "exec", command)
		steps(&l, b)
		sane(t, &l)
	})
}
