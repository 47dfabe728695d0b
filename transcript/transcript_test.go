package transcript

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write missing golden files (existing ones are never changed)")

// fixedKey and fixedHeader make every byte of a stream the same each time: nonces are numbers.
var fixedKey = Key{0: 1, 1: 2, 31: 3}

func fixedHeader() Header {
	return Header{
		Session: "k7f-2mq/1", SID: SID{1, 2, 3, 4}, Jump: "jump-a", Origin: "ca.example/breakglass",
		Person: "alice", Login: "root", Host: "web01", Door: DoorHop,
		T0: 1_795_000_000_000_000, Bind: SHA256([]byte("entry")), Prev: Checkpoint{88213, SHA256([]byte("root"))},
		Env: SHA256([]byte("envelope")),
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// fixedRecords has every kind of event.
func fixedRecords() [][]Event {
	return [][]Event{
		{{0, KindWall, 0, EncodeWall(time.UnixMicro(1_795_000_000_000_000))}, {ms(1), KindAct, 0, Action{"host.connected", "198.51.100.7:22"}.Encode()}},
		{{ms(3), KindOpen, 1, Opening{From: FromPerson, Type: "session"}.Encode()}},
		{{ms(4), KindOpen, 1, Opening{Step: Done, From: FromPerson, Type: "session"}.Encode()}},
		{{ms(5), KindRequest, 1, Request{From: FromPerson, Type: "exec", Want: true, Payload: []byte("\x00\x00\x00\x03cat")}.Encode()}},
		{{ms(6), KindRequest, 1, Request{Step: Done, From: FromPerson, Type: "exec"}.Encode()}},
		{{ms(7), KindInput, 1, []byte("hello\xff\x00\n")}},
		{{ms(8), KindOutput, 1, []byte("hello\xff\x00\n")}, {ms(8), KindStderr, 1, []byte("warning\n")}},
		{{ms(9), KindWatcher, 0, Watching{true, "bob"}.Encode()}, {ms(9), KindMark, 0, []byte("here")}},
		{{ms(10), KindGlobal, 0, Request{From: FromPerson, Type: "no-more-sessions@openssh.com"}.Encode()}},
		{{ms(11), KindOpen, 2, Opening{Step: Denied, From: FromHost, Type: "x11", Reason: 1, Message: "not recorded yet"}.Encode()}},
		{{ms(12), KindRequest, 1, Request{From: FromHost, Type: "exit-status", Payload: []byte{0, 0, 0, 7}}.Encode()}},
		{{ms(13), KindEOF, 1, []byte{byte(FromHost)}}, {ms(13), KindClose, 1, []byte{byte(FromHost)}}, {ms(14), KindClose, 1, []byte{byte(FromPerson)}}},
	}
}

// fixedFrames writes the fixed stream. fold says which records are folded, as pairs from, to; the others stay as they are.
func fixedFrames(t testing.TB, end bool, fold ...[2]int) [][]byte {
	t.Helper()
	w, err := NewWriter(fixedHeader(), fixedKey)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := w.Folder()
	if err != nil {
		t.Fatal(err)
	}
	var recs [][]byte
	for _, es := range fixedRecords() {
		f, err := w.Seal(es)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, f)
	}
	frames := [][]byte{w.HeaderFrame()}
	at := 0
	for _, p := range fold {
		frames = append(frames, recs[at:p[0]]...)
		c, err := folder.Fold(recs[p[0]:p[1]])
		if err != nil {
			t.Fatal(err)
		}
		frames, at = append(frames, c), p[1]
	}
	frames = append(frames, recs[at:]...)
	if end {
		seven := 7
		f, err := w.End("closed", &seven, ms(20))
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
	return frames
}

func headOf(frames [][]byte) Head {
	var h Head
	for _, f := range frames {
		h = h.Add(f)
	}
	return h
}

func join(frames [][]byte) []byte { return bytes.Join(frames, nil) }

func readAll(t testing.TB, stream []byte, k Key) []Event {
	t.Helper()
	rd, err := NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	if err := rd.Unlock(k); err != nil {
		t.Fatal(err)
	}
	var es []Event
	for e, err := range rd.Events() {
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

// golden compares with a file that is written once and never edited.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	p := filepath.Join("testdata", "v1", file)
	want, err := os.ReadFile(p)
	if os.IsNotExist(err) && *update {
		if err := os.WriteFile(p, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs: format v1 must not change\n%s", file, cmp.Diff(want, got))
	}
}

func TestGolden(t *testing.T) {
	frames := fixedFrames(t, true)
	golden(t, "records.transcript", join(frames))
	h := headOf(frames)
	golden(t, "records.head", fmt.Appendf(nil, "%d %v\n", h.Frames, h.Chain))
	golden(t, "cut.transcript", join(fixedFrames(t, false)))

	// Compressed bytes may change with the compressor; what they say may not. So chunks are only read.
	if *update {
		golden(t, "chunks.transcript", join(fixedFrames(t, true, [2]int{0, 3}, [2]int{5, 9}, [2]int{9, 12})))
	}
	want := readAll(t, join(frames), fixedKey)
	for _, file := range []string{"records.transcript", "chunks.transcript", "cut.transcript"} {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", file))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, readAll(t, b, fixedKey)); d != "" {
			t.Errorf("%s: %s", file, d)
		}
	}
	var flat []Event
	for _, es := range fixedRecords() {
		flat = append(flat, es...)
	}
	if d := cmp.Diff(flat, want); d != "" {
		t.Errorf("what is read is not what was written: %s", d)
	}
}

func TestVerify(t *testing.T) {
	frames := fixedFrames(t, true, [2]int{2, 6})
	stream, final := join(frames), headOf(frames)
	for _, sealed := range []bool{true, false} {
		o := VerifyOptions{Final: &final, Heads: []Head{headOf(frames[:1]), headOf(frames[:4])}}
		if !sealed {
			o.Key = &fixedKey
		}
		res, err := Verify(bytes.NewReader(stream), o)
		if err != nil {
			t.Fatal(err)
		}
		if !res.Ended || res.Head != final || res.Records != 12 || res.Bytes != int64(len(stream)) || res.Opened == sealed || res.Header.Host != "web01" {
			t.Errorf("sealed=%v: %+v", sealed, res)
		}
		if !sealed && (res.BytesIn != 8 || res.BytesOut != 16 || res.End == nil || *res.End.Exit != 7 || res.Until != ms(14) || res.End.Duration() != ms(20)) {
			t.Errorf("opened: %+v", res)
		}
	}
	cut := fixedFrames(t, false)
	res, err := Verify(bytes.NewReader(join(cut)), VerifyOptions{Key: &fixedKey})
	if err != nil || res.Ended || res.End != nil || res.Until != ms(14) {
		t.Errorf("after a crash: %+v, %v", res, err)
	}
}

// detect says whether a sealed verification against the head, and one with key and head, both find what was done.
func detect(t *testing.T, stream []byte, final Head, what string) {
	t.Helper()
	for _, k := range []*Key{nil, &fixedKey} {
		res, err := Verify(bytes.NewReader(stream), VerifyOptions{Key: k, Final: &final})
		if err == nil {
			t.Fatalf("%s, key %v: not found: %+v", what, k != nil, res)
		}
		var at *FrameError
		if !errors.As(err, &at) {
			t.Fatalf("%s: %v says no place", what, err)
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	for _, fold := range [][][2]int{nil, {{0, 4}, {4, 8}}} {
		frames := fixedFrames(t, true, fold...)
		stream, final := join(frames), headOf(frames)
		headerLen := len(frames[0])
		for i := range stream {
			for bit := range 8 {
				stream[i] ^= 1 << bit
				detect(t, stream, final, fmt.Sprintf("byte %d bit %d", i, bit))
				// With the key alone it is found too: seals bind the header's chain value.
				if _, err := Verify(bytes.NewReader(stream), VerifyOptions{Key: &fixedKey}); err == nil {
					t.Fatalf("byte %d (header is %d) bit %d: not found with the key alone", i, headerLen, bit)
				}
				stream[i] ^= 1 << bit
			}
		}
	}
}

func TestEveryCutSwapRepeatAndRemovalIsFound(t *testing.T) {
	for _, fold := range [][][2]int{nil, {{0, 4}, {5, 8}}} {
		frames := fixedFrames(t, true, fold...)
		stream, final := join(frames), headOf(frames)
		for n := range stream {
			detect(t, stream[:n], final, fmt.Sprintf("cut at %d", n))
		}
		for i := range frames {
			var without, twice [][]byte
			without = append(append(without, frames[:i]...), frames[i+1:]...)
			twice = append(append(append(twice, frames[:i+1]...), frames[i]), frames[i+1:]...)
			detect(t, join(without), final, fmt.Sprintf("frame %d removed", i))
			detect(t, join(twice), final, fmt.Sprintf("frame %d twice", i))
			for j := range i {
				swapped := append([][]byte(nil), frames...)
				swapped[i], swapped[j] = swapped[j], swapped[i]
				detect(t, join(swapped), final, fmt.Sprintf("frames %d and %d swapped", j, i))
			}
		}
		detect(t, append(join(frames), 0), final, "a byte added")
		detect(t, append(join(frames), frames[1]...), final, "a frame added")
		if err := verifyErr(join(frames[:len(frames)-2]), nil, &final); !errors.Is(err, ErrTruncated) {
			t.Errorf("frames cut off the end: %v, want ErrTruncated", err)
		}
	}
}

func verifyErr(stream []byte, k *Key, final *Head) error {
	_, err := Verify(bytes.NewReader(stream), VerifyOptions{Key: k, Final: final})
	return err
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	frames := fixedFrames(t, true)
	final := headOf(frames)
	mangle := func(i int, f func([]byte) []byte) []byte {
		m := append([][]byte(nil), frames...)
		m[i] = f(bytes.Clone(m[i]))
		return join(m)
	}
	other := Key{9}
	for _, c := range []struct {
		what   string
		stream []byte
		key    *Key
		final  *Head
		want   error
	}{
		{"a torn tail", join(frames)[:len(join(frames))-3], nil, nil, ErrTruncated},
		{"an empty stream", nil, nil, nil, ErrTruncated},
		{"a flipped bit in a seal", mangle(5, func(b []byte) []byte { b[20] ^= 1; return b }), &fixedKey, nil, ErrSeal},
		{"a flipped bit in a seal, no key", mangle(5, func(b []byte) []byte { b[20] ^= 1; return b }), nil, &final, ErrChain},
		{"a missing record", join(append(append([][]byte{}, frames[:3]...), frames[4:]...)), nil, nil, ErrSequence},
		{"a frame of type 9", mangle(2, func(b []byte) []byte { b[4] = 9; return b }), nil, nil, ErrFrame},
		{"a length of 2 GiB", mangle(2, func(b []byte) []byte { b[0] = 0x80; return b }), nil, nil, ErrFrame},
		{"no header", join(frames[1:]), nil, nil, ErrFrame},
		{"another key", join(frames), &other, nil, ErrKey},
		{"an unknown field in the header", mangle(0, func(b []byte) []byte { return bytes.Replace(b, []byte(`"door"`), []byte(`"d00r"`), 1) }), nil, nil, ErrHeader},
		{"an escaped field name", mangle(0, func(b []byte) []byte { return bytes.Replace(b, []byte(`"v":1`), []byte(`"V":1`), 1) }), nil, nil, ErrHeader},
		{"a record after the end", append(join(frames), frames[1]...), nil, nil, ErrSequence},
	} {
		if err := verifyErr(c.stream, c.key, c.final); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
}

func TestHeadersOfAnotherStreamDontFit(t *testing.T) {
	a := fixedFrames(t, true)
	h := fixedHeader()
	h.Host = "db01"
	w, err := NewWriter(h, fixedKey) // same key, which never happens: even so
	if err != nil {
		t.Fatal(err)
	}
	a[0] = w.HeaderFrame()
	if err := verifyErr(join(a), &fixedKey, nil); !errors.Is(err, ErrSeal) {
		t.Errorf("records under another header: %v, want ErrSeal", err)
	}
}

func TestWriterIsClosedByErrors(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		what string
		do   func(w *Writer) error
	}{
		{"an unknown kind", func(w *Writer) error { _, err := w.Seal([]Event{{Kind: 'z'}}); return err }},
		{"data outside a channel", func(w *Writer) error { _, err := w.Seal([]Event{{Kind: KindOutput}}); return err }},
		{"too much at once", func(w *Writer) error {
			_, err := w.Seal([]Event{{Kind: KindOutput, Chan: 1, Data: make([]byte, MaxRecord)}})
			return err
		}},
		{"a journal that refuses", func(w *Writer) error {
			return w.SealTo([]Event{{Kind: KindMark}}, func([]byte) error { return boom })
		}},
		{"an end", func(w *Writer) error {
			if _, err := w.End("closed", nil, 0); err != nil {
				t.Fatal(err)
			}
			return boom
		}},
		{"Close", func(w *Writer) error { w.Close(); return boom }},
	} {
		w, err := NewWriter(fixedHeader(), NewKey())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.do(w); err == nil {
			t.Errorf("%s: no error", c.what)
		}
		if _, err := w.Seal([]Event{{Kind: KindMark}}); !errors.Is(err, ErrClosed) {
			t.Errorf("after %s: Seal gave %v", c.what, err)
		}
		if _, err := w.End("closed", nil, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("after %s: End gave %v", c.what, err)
		}
		if _, err := w.Folder(); !errors.Is(err, ErrClosed) {
			t.Errorf("after %s: Folder gave %v", c.what, err)
		}
	}
}

func TestManySealersOneOrder(t *testing.T) {
	w, err := NewWriter(fixedHeader(), fixedKey)
	if err != nil {
		t.Fatal(err)
	}
	stream := bytes.Clone(w.HeaderFrame())
	start := time.Now()
	var wg sync.WaitGroup
	for ch := range 8 {
		wg.Go(func() {
			for i := range 50 {
				e := Event{time.Since(start), KindOutput, uint32(ch + 1), fmt.Appendf(nil, "%d", i)}
				if err := w.SealTo([]Event{e}, func(f []byte) error { stream = append(stream, f...); return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	f, err := w.End("closed", nil, time.Since(start))
	if err != nil {
		t.Fatal(err)
	}
	head := w.Head()
	if err := verifyErr(append(stream, f...), &fixedKey, &head); err != nil {
		t.Fatal(err)
	}
	next := map[uint32]int{}
	for _, e := range readAll(t, stream, fixedKey) {
		if string(e.Data) != fmt.Sprint(next[e.Chan]) {
			t.Fatalf("channel %d: %q where %d comes next", e.Chan, e.Data, next[e.Chan])
		}
		next[e.Chan]++
	}
}

func TestTimesNeverFall(t *testing.T) {
	w, _ := NewWriter(fixedHeader(), fixedKey)
	stream := bytes.Clone(w.HeaderFrame())
	for _, es := range [][]Event{{{T: 5 * time.Second, Kind: KindMark}, {T: 3 * time.Second, Kind: KindMark}}, {{T: time.Second, Kind: KindMark}}, {{T: 6*time.Second + 999, Kind: KindMark}}} {
		f, err := w.Seal(es)
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, f...)
	}
	var got []time.Duration
	for _, e := range readAll(t, stream, fixedKey) {
		got = append(got, e.T)
	}
	if d := cmp.Diff([]time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second, 6 * time.Second}, got); d != "" {
		t.Error(d)
	}
}

func TestFold(t *testing.T) {
	w, _ := NewWriter(fixedHeader(), fixedKey)
	folder, err := w.Folder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Folder(); err == nil {
		t.Error("a second folder was given out: it would seal under the same numbers")
	}
	frames := [][]byte{w.HeaderFrame()}
	var raw, keys int
	var want []byte
	var folded [][]byte
	for i := range 60 {
		var group [][]byte
		for j := range 40 {
			text := fmt.Appendf(nil, "line %d of round %d: %s\r\n", j, i, strings.Repeat("load average ", j%7+60))
			raw += len(text)
			want = append(want, text...)
			f, err := w.Seal([]Event{{time.Duration(i) * time.Second, KindOutput, 1, text}})
			if err != nil {
				t.Fatal(err)
			}
			group = append(group, f)
		}
		if i%5 == 4 { // the worker fell behind
			frames = append(frames, group...)
			continue
		}
		folded = group
		c, err := folder.Fold(group)
		if err != nil {
			t.Fatal(err)
		}
		keys += int(c[4+1+20] & flagKey)
		frames = append(frames, bytes.Clone(c))
	}
	f, _ := w.End("closed", nil, time.Hour)
	frames = append(frames, f)
	head := headOf(frames)
	if err := verifyErr(join(frames), &fixedKey, &head); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for _, e := range readAll(t, join(frames), fixedKey) {
		got = append(got, e.Data...)
	}
	if !bytes.Equal(got, want) {
		t.Error("folded text differs")
	}
	if keys < 2 {
		t.Errorf("%d seek points in %d bytes", keys, raw)
	}
	if n := len(join(frames)); n > raw/2 {
		t.Errorf("%d bytes stored for %d", n, raw)
	}

	// Going back is refused, and closes the folder.
	if _, err := folder.Fold(folded[:1]); !errors.Is(err, ErrSequence) {
		t.Errorf("folding a record twice: %v", err)
	}
	if _, err := folder.Fold(frames[len(frames)-2 : len(frames)-1]); !errors.Is(err, ErrClosed) {
		t.Errorf("after an error: %v", err)
	}
}

// What zstd can't shrink goes into the stream as it is, and what follows is folded so that a reader understands it.
func TestWhatDoesNotShrinkIsNotFolded(t *testing.T) {
	w, _ := NewWriter(fixedHeader(), fixedKey)
	folder, _ := w.Folder()
	noise := newSealer(NewKey(), Hash{}).aead.Seal(nil, make([]byte, 12), make([]byte, 300<<10), nil)
	frames := [][]byte{w.HeaderFrame()}
	keys := 0
	for i, data := range [][]byte{bytes.Repeat([]byte("text "), 1000), noise, bytes.Repeat([]byte("text "), 1001), noise, bytes.Repeat([]byte("text "), 1002)} {
		f, err := w.Seal([]Event{{0, KindOutput, 1, data}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := folder.Fold([][]byte{f})
		switch {
		case i%2 == 0 && err != nil:
			t.Fatal(err)
		case i%2 == 1 && !errors.Is(err, ErrNoGain):
			t.Errorf("%d bytes for %d, %v", len(c), len(f), err)
		case i%2 == 1:
			frames = append(frames, f)
		default:
			keys += int(c[4+1+20] & flagKey)
			frames = append(frames, bytes.Clone(c))
		}
	}
	if err := verifyErr(join(frames), &fixedKey, nil); err != nil {
		t.Fatal(err)
	}
	if keys != 3 {
		t.Errorf("%d places to start, not after each that was passed over", keys)
	}
	// After a rest, too.
	f, _ := w.Seal([]Event{{0, KindOutput, 1, bytes.Repeat([]byte("text "), 1003)}})
	folder.Rest()
	c, err := folder.Fold([][]byte{f})
	if err != nil || c[4+1+20]&flagKey == 0 {
		t.Errorf("after a rest: flags %d, %v", c[4+1+20], err)
	}
	if err := verifyErr(append(join(frames), c...), &fixedKey, nil); err != nil {
		t.Fatal(err)
	}
}

func TestEnvelope(t *testing.T) {
	x1, _ := age.GenerateX25519Identity()
	x2, _ := age.GenerateX25519Identity()
	q1, _ := age.GenerateHybridIdentity()
	q2, _ := age.GenerateHybridIdentity()
	xr, qr := x1.Recipient().String(), q1.Recipient().String()
	for _, c := range []struct {
		what string
		in   []string
		ok   bool
	}{
		{"classical", []string{xr, x2.Recipient().String()}, true},
		{"post-quantum", []string{qr, q2.Recipient().String()}, true},
		{"a mix", []string{xr, qr}, false},
		{"nobody", nil, false},
		{"a secret key", []string{x1.String()}, false},
		{"an ssh key", []string{"ssh-ed25519 AAAA"}, false},
		{"a cut one", []string{xr[:40]}, false},
	} {
		rs, err := ParseRecipients(c.in)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: error shows the secret: %v", c.what, err)
		}
		if err != nil {
			continue
		}
		k := NewKey()
		env, err := Envelope(rs, k)
		if err != nil {
			t.Fatal(err)
		}
		h := fixedHeader()
		h.Env = SHA256(env)
		w, err := NewWriter(h, k)
		if err != nil {
			t.Fatal(err)
		}
		h = w.Header()
		id := age.Identity(x2)
		if strings.HasPrefix(c.in[0], prefixHybrid) {
			id = q2
		}
		if got, err := OpenEnvelope(h, env, id); err != nil || got != k {
			t.Errorf("%s: %v", c.what, err)
		}
		stranger, _ := age.GenerateX25519Identity()
		if _, err := OpenEnvelope(h, env, stranger); !errors.Is(err, ErrNotRecipient) {
			t.Errorf("%s: stranger got %v", c.what, err)
		}
		// An envelope that opens, but is another session's or holds another key.
		env2, _ := Envelope(rs, NewKey())
		if _, err := OpenEnvelope(h, env2, id); !errors.Is(err, ErrEnvelope) {
			t.Errorf("%s: foreign envelope: %v", c.what, err)
		}
		h.Env = SHA256(env2)
		if _, err := OpenEnvelope(h, env2, id); !errors.Is(err, ErrKey) {
			t.Errorf("%s: other key in the envelope: %v", c.what, err)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %s", fixedKey, fixedKey, fixedKey, fixedKey); strings.Contains(s, "1") {
		t.Errorf("a key prints as %q", s)
	}
}

func TestHeaderChecks(t *testing.T) {
	for _, c := range []struct {
		what string
		set  func(*Header)
	}{
		{"no session", func(h *Header) { h.Session = "" }},
		{"a session spelt otherwise", func(h *Header) { h.Session = "K7F-2MQ/1" }},
		{"a host with a slash", func(h *Header) { h.Host = "a/b" }},
		{"an unknown door", func(h *Header) { h.Door = "window" }},
		{"no time", func(h *Header) { h.T0 = 0 }},
		{"nothing to bind to", func(h *Header) { h.Bind = Hash{} }},
		{"no envelope", func(h *Header) { h.Env = Hash{} }},
		{"an origin with a line break", func(h *Header) { h.Origin = "a\nb" }},
		{"a negative checkpoint", func(h *Header) { h.Prev.Size = -1 }},
	} {
		h := fixedHeader()
		c.set(&h)
		if _, err := NewWriter(h, fixedKey); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	var h Hash
	if err := json.Unmarshal([]byte(`"`+strings.Repeat("AB", 32)+`"`), &h); err == nil {
		t.Error("upper case hex passed")
	}
}

// FuzzReader: no stream makes a reader panic, and what opens under the key can't be anything but what was sealed: here
// only the seeds are.
func FuzzReader(f *testing.F) {
	for _, end := range []bool{true, false} {
		f.Add(join(fixedFrames(f, end)))
		f.Add(join(fixedFrames(f, end, [2]int{0, 4}, [2]int{4, 8})))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed, errSealed := Verify(bytes.NewReader(b), VerifyOptions{})
		opened, errOpened := Verify(bytes.NewReader(b), VerifyOptions{Key: &fixedKey})
		if errOpened == nil && errSealed != nil {
			t.Errorf("opens, but is not well-formed: %v", errSealed)
		}
		if errOpened == nil && (sealed.Head != opened.Head || sealed.Bytes != int64(len(b))) {
			t.Errorf("sealed %+v, opened %+v", sealed, opened)
		}
	})
}

// FuzzRecord fuzzes behind the seal, where a broken or hostile recorder could write.
func FuzzRecord(f *testing.F) {
	for _, es := range fixedRecords() {
		b, _, err := appendRecord(nil, es, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		es, _, err := parseRecord(b, 0)
		if err != nil {
			return
		}
		again, _, err := appendRecord(nil, es, 0)
		if err != nil {
			t.Fatal(err)
		}
		es2, _, err := parseRecord(again, 0)
		if err != nil || len(es2) != len(es) {
			t.Fatalf("written again: %d events, %v; were %d", len(es2), err, len(es))
		}
		u := unfolder{}
		defer u.close()
		u.unfold(b, flagKey, 1)
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{64, 32 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w, _ := NewWriter(fixedHeader(), NewKey())
			data := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := w.Seal([]Event{{0, KindOutput, 1, data}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyChain(b *testing.B) {
	w, _ := NewWriter(fixedHeader(), fixedKey)
	var stream bytes.Buffer
	stream.Write(w.HeaderFrame())
	for range 1000 {
		f, _ := w.Seal([]Event{{0, KindOutput, 1, make([]byte, 32<<10)}})
		stream.Write(f)
	}
	for _, k := range []*Key{nil, &fixedKey} {
		b.Run(fmt.Sprintf("opened=%v", k != nil), func(b *testing.B) {
			b.SetBytes(int64(stream.Len()))
			for b.Loop() {
				if _, err := Verify(bytes.NewReader(stream.Bytes()), VerifyOptions{Key: k}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
