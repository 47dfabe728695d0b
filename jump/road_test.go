package jump

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"breakglass/transcript"
)

func TestACommandRunsAndIsRecorded(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	r := w.ssh(g, strings.NewReader("typed"), "cat; echo out; echo err >&2; exit 3")
	if r.code != 3 || r.stdout != "typedout\n" || r.stderr != "err\n" {
		t.Fatalf("ssh: %+v", r)
	}
	rec := w.session(g, 1)
	if got := rec.data(transcript.KindInput, 1); got != "typed" {
		t.Errorf("input %q", got)
	}
	if got := rec.data(transcript.KindOutput, 1); got != "typedout\n" {
		t.Errorf("output %q", got)
	}
	if got := rec.data(transcript.KindStderr, 1); got != "err\n" {
		t.Errorf("stderr %q", got)
	}
	rec.has("1 asked person exec", "cat; echo out")
	rec.has("1 done person exec")
	rec.has("1 asked host exit-status", `"\x00\x00\x00\x03"`)
	rec.has("0 denied host hostkeys-00@openssh.com")
	if rec.end == nil || rec.end.Exit == nil || *rec.end.Exit != 3 || rec.end.Reason != endClosed {
		t.Errorf("end %+v", rec.end)
	}
	e := w.ended(g, 1)
	if e.Exit != "3" || e.BytesIn != 5 || e.BytesOut != 13 {
		t.Errorf("fact %+v", e)
	}
}

func TestTenMegabytesEachWay(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	in := make([]byte, 10<<20)
	rand.Read(in)
	r := w.ssh(g, bytes.NewReader(in), "cat")
	if r.code != 0 || sha256.Sum256([]byte(r.stdout)) != sha256.Sum256(in) {
		t.Fatalf("code %d, %d bytes of %d; %s", r.code, len(r.stdout), len(in), r.stderr)
	}
	rec := w.session(g, 1)
	for _, k := range []transcript.Kind{transcript.KindInput, transcript.KindOutput} {
		if sha256.Sum256([]byte(rec.data(k, 1))) != sha256.Sum256(in) {
			t.Errorf("recorded %c differs", k)
		}
	}
}
