package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/review/evidence"
	"breakglass/review/evidence/evidencetest"
)

const testPassphrase = "correct horse battery"

// offline is a reviewer's machine with nothing running: pins, a sealed identity, bundles in files.
type offline struct {
	*evidencetest.World
	t    *testing.T
	dir  string
	pins string
}

func newOffline(t *testing.T, identity bool) *offline {
	t.Helper()
	o := &offline{World: evidencetest.Granted(t, 2), t: t, dir: t.TempDir()}
	o.Site.TLS = []string{strings.Repeat("ab", 32)}
	p, err := api.Pins{Site: o.Site, Checkpoint: o.Pins}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	o.pins = o.file("pins", p)
	o.file("passphrase", []byte(testPassphrase+"\n"))
	if err := os.MkdirAll(filepath.Join(o.dir, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if identity {
		r, err := age.NewScryptRecipient(testPassphrase)
		if err != nil {
			t.Fatal(err)
		}
		r.SetWorkFactor(2)
		var b bytes.Buffer
		w, err := age.Encrypt(&b, r)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, o.Reader.String()+"\n")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		o.file("config/"+identityFile, b.Bytes())
	}
	return o
}

func (o *offline) file(name string, b []byte) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// bundle is a bundle's bytes, with the envelopes or without.
func (o *offline) bundle(envelopes bool) []byte {
	o.t.Helper()
	want := evidence.Wanted{Request: o.Granted.Statement.ID, LedgerKey: o.VKey, Pinned: evidence.Trust{Site: o.Site, Checkpoint: o.Pins}.Pinned()}
	if envelopes {
		want.Envelopes = o.Read()
	}
	e, recs, err := evidence.Collect(o.t.Context(), o.World, want)
	if err != nil {
		o.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := evidence.Write(&b, e, recs); err != nil {
		o.t.Fatal(err)
	}
	return b.Bytes()
}

// run runs the program and gives its status and what it wrote.
func (o *offline) run(args ...string) (status int, stdout, stderr string) {
	o.t.Helper()
	return o.runWith(os.DevNull, args...)
}

// runWith is run with a file as its stdin.
func (o *offline) runWith(stdin string, args ...string) (status int, stdout, stderr string) {
	o.t.Helper()
	out, err := os.Create(filepath.Join(o.dir, "stdout"))
	if err != nil {
		o.t.Fatal(err)
	}
	defer out.Close()
	errs, err := os.Create(filepath.Join(o.dir, "stderr"))
	if err != nil {
		o.t.Fatal(err)
	}
	defer errs.Close()
	null, err := os.Open(stdin)
	if err != nil {
		o.t.Fatal(err)
	}
	defer null.Close()
	env := map[string]string{"BREAKGLASS_HOME": o.dir, "BREAKGLASS_PASSPHRASE_FILE": filepath.Join(o.dir, "passphrase"), "HOME": o.dir}
	status = run(args, null, out, errs, func(k string) string { return env[k] })
	a, err := os.ReadFile(out.Name())
	if err != nil {
		o.t.Fatal(err)
	}
	b, err := os.ReadFile(errs.Name())
	if err != nil {
		o.t.Fatal(err)
	}
	return status, string(a), string(b)
}

func TestVerifyOffline(t *testing.T) {
	reader, auditor := newOffline(t, true), newOffline(t, false)
	open, sealed := reader.file("open.bundle", reader.bundle(true)), auditor.file("sealed.bundle", auditor.bundle(false))
	broken := auditor.bundle(false)
	broken[len(broken)-2000] ^= 1
	bad := auditor.file("bad.bundle", broken)
	for what, c := range map[string]struct {
		o      *offline
		args   []string
		status int
		line   string
	}{
		"a reader opens it":                 {reader, []string{"verify", open, "--trust", reader.pins}, 0, "VERIFIED"},
		"a reader leaves it sealed":         {reader, []string{"verify", open, "--trust", reader.pins, "--sealed"}, 0, "VERIFIED sealed"},
		"an auditor can't open it":          {auditor, []string{"verify", sealed, "--trust", auditor.pins}, 0, "VERIFIED sealed"},
		"a byte was changed":                {auditor, []string{"verify", bad, "--trust", auditor.pins}, exitVerify, "FAILED recording"},
		"it is of another installation":     {auditor, []string{"verify", sealed, "--trust", reader.pins}, exitVerify, "FAILED log: checkpoint refused"},
		"it is no bundle":                   {auditor, []string{"verify", auditor.pins, "--trust", auditor.pins}, exitVerify, "FAILED bundle: not a bundle"},
		"there are no pins":                 {auditor, []string{"verify", sealed}, exitFailed, ""},
		"the pins are none":                 {auditor, []string{"verify", sealed, "--trust", sealed}, exitFailed, ""},
		"there is no such file":             {auditor, []string{"verify", "nothing.bundle", "--trust", auditor.pins}, exitFailed, ""},
		"no file and no id":                 {auditor, []string{"verify"}, exitUsage, ""},
		"an auditor can't play it":          {auditor, []string{"replay", sealed, "--trust", auditor.pins}, exitFailed, ""},
		"the sealed one has nothing to say": {reader, []string{"replay", reader.file("s.bundle", reader.bundle(false)), "--trust", reader.pins}, exitFailed, ""},
	} {
		status, out, errs := c.o.run(c.args...)
		line, _, _ := strings.Cut(out, "\n")
		if status != c.status || !strings.HasPrefix(line, c.line) || c.line == "" && (out != "" || !strings.HasPrefix(errs, "breakglass: error: ")) ||
			status == 0 && line != c.line {
			t.Errorf("%s: status %d, want %d %q\n%s%s", what, status, c.status, c.line, out, errs)
		}
	}
	status, out, _ := reader.run("verify", open, "--trust", reader.pins, "--json")
	var v evidence.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || status != 0 || v.Result != evidence.Verified || len(v.Recordings) != 2 || !v.Recordings[1].Opened {
		t.Errorf("--json: %v %s", err, out)
	}
}

func TestReadOffline(t *testing.T) {
	o := newOffline(t, true)
	good := o.bundle(true)
	file := o.file("session.bundle", good)
	id := o.Granted.Statement.ID.Session(1)
	want := strings.Repeat("file of "+string(id)+"\r\n", 3)
	sum := sha256.Sum256([]byte(want))
	trust := []string{"--trust", o.pins}
	for what, c := range map[string]struct {
		args []string
		out  string
	}{
		"replay":     {append([]string{"replay", file, "--speed", "1000"}, trust...), "file of " + string(id)},
		"asciicast":  {append([]string{"export", file}, trust...), `{"version":2`},
		"text":       {append([]string{"export", file, "--text"}, trust...), "ls"},
		"raw output": {append([]string{"export", file, "--raw"}, trust...), want},
		"raw input":  {append([]string{"export", file, "--raw", "--input"}, trust...), "ls\nls\nls\n"},
		"hashes":     {append([]string{"export", file, "--hashes"}, trust...), hex.EncodeToString(sum[:]) + "  channel 1 stdout"},
		"hashes, as JSON": {append([]string{"export", file, "--hashes", "--json"}, trust...),
			`"sha256": "` + hex.EncodeToString(sum[:])},
	} {
		status, out, errs := o.run(c.args...)
		if status != 0 || !strings.Contains(out, c.out) {
			t.Errorf("%s: status %d\n%s%s", what, status, out, errs)
		}
	}
	bad := bytes.Clone(good)
	bad[len(bad)-2000] ^= 1
	broken := o.file("bad.bundle", bad)
	if status, out, errs := o.run("replay", broken, "--trust", o.pins, "--speed", "1000"); status != exitVerify || out != "" || !strings.Contains(errs, "--force") {
		t.Errorf("a broken recording was shown: status %d\n%s%s", status, out, errs)
	}
	if status, out, errs := o.run("replay", broken, "--trust", o.pins, "--speed", "1000", "--force"); status != 0 || !strings.Contains(out, "file of") || !strings.Contains(errs, "warning: FAILED") {
		t.Errorf("--force: status %d\n%s%s", status, out, errs)
	}
	to := filepath.Join(o.dir, "out.cast")
	if status, _, errs := o.run("export", file, "--trust", o.pins, "-o", to); status != 0 {
		t.Error(errs)
	}
	if s, err := os.Stat(to); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("what was typed may be a password: %v %v", s, err)
	}
	if status, _, _ := o.run("export", file, "--trust", o.pins, "-o", to); status == 0 {
		t.Error("an export replaced a file")
	}
	for _, args := range [][]string{{"export", file, "--text", "--raw"}, {"export", file, "--input"}, {"replay", file, "--speed", "0"}, {"bundle", "k7f-2mq"}} {
		if status, _, _ := o.run(args...); status != exitUsage {
			t.Errorf("%v: status %d", args, status)
		}
	}
}

func TestMatching(t *testing.T) {
	list := []api.SessionState{{ID: "k7f-2mq/1"}, {ID: "k7f-2mq/2"}, {ID: "k7g-333/1"}, {ID: "abc-def/12"}}
	for typed, want := range map[string]string{
		"k7f-2mq": "k7f-2mq/1 k7f-2mq/2", "k7f2mq": "k7f-2mq/1 k7f-2mq/2", "K7F": "k7f-2mq/1 k7f-2mq/2", "k7": "k7f-2mq/1 k7f-2mq/2 k7g-333/1",
		"k7f-2mq/2": "k7f-2mq/2", "k7f/2": "k7f-2mq/2", "abc/1": "", "abc/12": "abc-def/12", "": "", "/1": "", "zzz": "",
	} {
		var got []string
		for _, s := range matching(list, typed) {
			got = append(got, string(s.ID))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %v", typed, got, want)
		}
	}
	for _, c := range []struct {
		what chosen
		want name.SessionID
	}{
		{chosen{session: "k7f-2mq/2", sessions: list}, "k7f-2mq/2"}, {chosen{sessions: list[:1]}, "k7f-2mq/1"}, {chosen{sessions: list[:2]}, ""}, {chosen{}, ""},
	} {
		if got, err := c.what.one(); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c.what, got, err)
		}
	}
}

func TestIsFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("evidence", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]bool{"k7f-2mq": false, "k7f-2mq/1": false, "k7f": false, "k7f/1": false, "evidence": true, "./k7f-2mq": true, "session.bundle": true, "/tmp/x": true} {
		if isFile(arg, "") != want {
			t.Errorf("%q: %v", arg, !want)
		}
	}
	if !isFile("k7f-2mq", "pins") {
		t.Error("--trust is for files")
	}
}

func TestSessionsList(t *testing.T) {
	var b bytes.Buffer
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	err := writeSessions(&b, []api.SessionState{
		{ID: "k7f-2mq/1", Person: "alice", Login: "root", Host: "web01", Opened: at, State: "ended", Seconds: 61, Stored: true, Peer: "203.0.113.9", Reason: "sso is down \x1b[2J" + strings.Repeat("x", 100)},
		{ID: "k7f-2mq/2", Person: "alice", Login: "root", Host: "web01", Opened: at, Until: at, State: "open"},
		{ID: "k7f-2mq/3", Person: "alice", Login: "root", Host: "web01", Opened: at, State: "crashed"},
	})
	out := b.String()
	if err != nil || strings.Contains(out, "\x1b") || !strings.Contains(out, "1m1s") || !strings.Contains(out, "crashed, not stored yet") || strings.Count(out, "\n") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
}
