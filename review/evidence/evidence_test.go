package evidence

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
	"breakglass/review/evidence/evidencetest"
	"breakglass/transcript"
)

// world is a test's installation, and what this package makes of it.
type world struct{ *evidencetest.World }

func begin(t testing.TB) *world { return &world{evidencetest.Begin(t)} }

func granted(t testing.TB, sessions int) *world { return &world{evidencetest.Granted(t, sessions)} }

func (w *world) trust() Trust { return Trust{Site: w.Site, Checkpoint: w.Pins} }

func (w *world) bundle(t testing.TB, envelopes map[name.SessionID][]byte) []byte {
	t.Helper()
	return w.write(t, envelopes, nil)
}

// write makes a bundle; change edits its parts before.
func (w *world) write(t testing.TB, envelopes map[name.SessionID][]byte, change func(*Evidence, *[]Recording)) []byte {
	t.Helper()
	e, recs, err := Collect(t.Context(), w, w.want(envelopes))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(e, &recs)
	}
	var b bytes.Buffer
	if err := Write(&b, e, recs); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) want(envelopes map[name.SessionID][]byte) Wanted {
	return Wanted{Request: w.Granted.Statement.ID, LedgerKey: w.VKey, Pinned: w.trust().Pinned(), Envelopes: envelopes}
}

func (w *world) verify(b []byte, ids ...age.Identity) *Verdict {
	return Verify(bytes.NewReader(b), w.trust(), Options{Identities: ids})
}

func text(t testing.TB, v *Verdict) string {
	t.Helper()
	var b bytes.Buffer
	if err := v.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestVerdicts(t *testing.T) {
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		make   func(t *testing.T) (*world, []byte)
		id     func(w *world) []age.Identity
		line   string
		status int
		says   []string
	}{
		"sealed": {func(t *testing.T) (*world, []byte) { w := granted(t, 2); return w, w.bundle(t, nil) }, nil, "VERIFIED sealed", 0,
			[]string{"signed by alice's soft (counter ", "touch and PIN", `rule "test"`, "certificate serial", "/2: 3 records", "history goes on from the pins'"}},
		"opened": {func(t *testing.T) (*world, []byte) { w := granted(t, 1); return w, w.bundle(t, w.Read()) }, func(w *world) []age.Identity { return []age.Identity{w.Reader} }, "VERIFIED", 0,
			[]string{"opened: 9 bytes in"}},
		"opened by nobody": {func(t *testing.T) (*world, []byte) { w := granted(t, 1); return w, w.bundle(t, w.Read()) }, nil, "VERIFIED sealed", 0, nil},
		"opened by a stranger": {func(t *testing.T) (*world, []byte) { w := granted(t, 1); return w, w.bundle(t, w.Read()) }, func(*world) []age.Identity { return []age.Identity{stranger} }, "VERIFIED sealed", 0,
			[]string{"is not sealed to the identity given"}},
		"crashed": {func(t *testing.T) (*world, []byte) {
			w := granted(t, 0)
			w.Record(t, "crashed")
			return w, w.bundle(t, nil)
		}, nil, "VERIFIED-UNTIL record 3: the recorder of session", 21, nil},
		"crashed, opened": {func(t *testing.T) (*world, []byte) {
			w := granted(t, 0)
			w.Record(t, "crashed")
			return w, w.bundle(t, w.Read())
		}, func(w *world) []age.Identity { return []age.Identity{w.Reader} }, "VERIFIED-UNTIL 2026-11-24 03:01:02Z: the recorder of session", 21, nil},
		"still open": {func(t *testing.T) (*world, []byte) {
			w := granted(t, 1)
			w.Record(t, "open")
			return w, w.bundle(t, nil)
		}, nil, "VERIFIED-UNTIL 2026-11-24 03:02:00Z: session", 21, []string{"has no end in the ledger"}},
		"over and on its way": {func(t *testing.T) (*world, []byte) {
			w := granted(t, 0)
			w.Record(t, "unstored")
			return w, w.bundle(t, nil)
		}, nil, "VERIFIED-UNTIL", 21, []string{"is not stored yet"}},
		"unused": {func(t *testing.T) (*world, []byte) { w := granted(t, 0); return w, w.bundle(t, nil) }, nil, "VERIFIED", 0, nil},
		"denied": {func(t *testing.T) (*world, []byte) {
			w := begin(t)
			w.Granted = &ledgertest.Grant{}
			st := w.Request(w.Alice, ledgertest.NewKey(t).PublicKey())
			w.Granted.Statement = *st
			text, sig := ledgertest.Sign(t, w.Alice.Signer, st)
			deny(w, text, sig)
			return w, w.bundle(t, nil)
		}, nil, "VERIFIED", 0, []string{"denied: country_unknown"}},
	} {
		w, b := c.make(t)
		var ids []age.Identity
		if c.id != nil {
			ids = c.id(w)
		}
		v := w.verify(b, ids...)
		out := text(t, v)
		line, _, _ := strings.Cut(out, "\n")
		if line != c.line && !(strings.HasPrefix(c.line, "VERIFIED-UNTIL") && strings.HasPrefix(line, c.line)) || v.Result.ExitStatus() != c.status {
			t.Errorf("%s: %s", what, out)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: no %q in\n%s", what, s, out)
			}
		}
		var j bytes.Buffer
		if err := v.WriteJSON(&j); err != nil {
			t.Fatal(err)
		}
		var back Verdict
		if err := json.Unmarshal(j.Bytes(), &back); err != nil || back.Result != v.Result || back.Request != w.Granted.Statement.ID {
			t.Errorf("%s: %v %s", what, err, j.Bytes())
		}
	}
}

func deny(w *world, text, sig string) {
	w.Append(&ledger.Entry{Actor: ledger.PersonActor("alice"), Subject: ledger.Subject{Request: w.Granted.Statement.ID, Person: "alice", Host: "web01", Login: "root"},
		Statement: text, SSHSIG: sig, Facts: &ledger.RequestDenied{Reasons: []ledger.Reason{{Code: "country_unknown", Detail: "x"}}, Used: ledger.Used{Touch: w.Touch(w.Alice, sig)}}})
}

// TestEveryByte changes bytes all over a bundle: each one is found.
func TestEveryByte(t *testing.T) {
	w := granted(t, 2)
	b := w.bundle(t, w.Read())
	if v := w.verify(b, w.Reader); v.Result != Verified {
		t.Fatal(text(t, v))
	}
	step := max(1, len(b)/600)
	for at := 0; at < len(b); at += step {
		for _, bit := range []byte{0x01, 0x20} {
			bad := slices.Clone(b)
			bad[at] ^= bit
			if v := w.verify(bad, w.Reader); v.Result != Failed {
				t.Fatalf("byte %d of %d changed (%q): %s", at, len(b), b[max(0, at-20):min(len(b), at+20)], text(t, v))
			}
		}
	}
	for cut := 0; cut < len(b); cut += 97 {
		if v := w.verify(b[:cut], w.Reader); v.Result != Failed {
			t.Fatalf("cut at %d of %d: %s", cut, len(b), text(t, v))
		}
	}
	if v := w.verify(append(slices.Clone(b), 0)); v.Result != Failed {
		t.Error("a byte more:", text(t, v))
	}
}

// TestForged are bundles by somebody who knows the format.
func TestForged(t *testing.T) {
	type parts = func(w *world, e *Evidence, recs *[]Recording)
	typed := func(e *Evidence, typ ledger.Type) int {
		for i := range e.Entries {
			if x, err := ledger.Decode([]byte(e.Entries[i].Entry)); err == nil && x.Type() == typ {
				return i
			}
		}
		t.Fatal("no entry of type", typ)
		return 0
	}
	without := func(typ ledger.Type) parts {
		return func(_ *world, e *Evidence, _ *[]Recording) {
			i := typed(e, typ)
			e.Entries = slices.Delete(e.Entries, i, i+1)
		}
	}
	stream := func(r *Recording, b []byte) {
		r.Size, r.Open = int64(len(b)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	frames := func(b []byte) (fs [][]byte) {
		for len(b) > 0 {
			f, rest, ok := transcript.SplitFrame(b)
			if !ok {
				t.Fatal("torn stream")
			}
			fs, b = append(fs, f), rest
		}
		return fs
	}
	for what, c := range map[string]struct {
		do    parts
		where string
	}{
		"no site":        {without("site.created"), "entry"},
		"no policy":      {without("policy.adopted"), "policy"},
		"no enrolment":   {without("key.enrolled"), "which no earlier entry enrolled"},
		"no request":     {without("request.opened"), "request"},
		"no decision":    {without("grant.allowed"), "grant"},
		"no certificate": {without("certificate.issued"), "certificate"},
		"no session":     {without("session.opened"), "session"},
		"no recipients":  {without("recipients.changed"), "no set of recipients"},
		"no end":         {without("session.ended"), "transcript"},
		"another head while it ran": {func(_ *world, e *Evidence, _ *[]Recording) {
			i := typed(e, "session.head")
			e.Entries[i].Entry = strings.Replace(e.Entries[i].Entry, `"frames":3`, `"frames":2`, 1)
		}, "proof does not hold"},
		"no storing": {without("transcript.stored"), "stored"},
		"no reading": {without("transcript.read"), "without an entry"},
		"an entry's text": {func(_ *world, e *Evidence, _ *[]Recording) {
			i := typed(e, "grant.allowed")
			e.Entries[i].Entry = strings.Replace(e.Entries[i].Entry, `"minutes":30`, `"minutes":60`, 1)
		}, "proof does not hold"},
		"an entry's place":     {func(_ *world, e *Evidence, _ *[]Recording) { e.Entries[len(e.Entries)-1].Index-- }, "proof does not hold"},
		"entries out of order": {func(_ *world, e *Evidence, _ *[]Recording) { slices.Reverse(e.Entries[3:5]) }, "order"},
		"another's entry":      {func(w *world, e *Evidence, _ *[]Recording) { foreignEntry(w, e) }, "is about request"},
		"no links":             {func(_ *world, e *Evidence, _ *[]Recording) { e.Links = nil }, "no proof leads"},
		"another link":         {func(_ *world, e *Evidence, _ *[]Recording) { e.Links[0].Root[0] ^= 1 }, "proof does not hold"},
		"the streams swapped": {func(_ *world, _ *Evidence, r *[]Recording) {
			rs := *r
			rs[0].Open, rs[1].Open, rs[0].Size, rs[1].Size = rs[1].Open, rs[0].Open, rs[1].Size, rs[0].Size
		}, "binds to another entry"},
		"the recordings swapped":  {func(_ *world, _ *Evidence, r *[]Recording) { slices.Reverse(*r) }, "not in its place"},
		"a recording left out":    {func(_ *world, _ *Evidence, r *[]Recording) { *r = (*r)[:1] }, "missing"},
		"all recordings left out": {func(_ *world, _ *Evidence, r *[]Recording) { *r = nil }, "missing"},
		"a recording twice":       {func(_ *world, _ *Evidence, r *[]Recording) { *r = append(*r, (*r)[1]) }, "not in its place"},
		"a recording of another":  {func(_ *world, _ *Evidence, r *[]Recording) { (*r)[1].Session = "abc-def/2" }, "of no session"},
		"another envelope":        {func(_ *world, _ *Evidence, r *[]Recording) { (*r)[0].Envelope = (*r)[1].Envelope }, "envelope"},
		"a record removed": {func(w *world, _ *Evidence, r *[]Recording) {
			fs := frames(w.Streams[(*r)[0].Session])
			stream(&(*r)[0], bytes.Join(slices.Delete(fs, 2, 3), nil))
		}, "recording"},
		"the end removed": {func(w *world, _ *Evidence, r *[]Recording) {
			fs := frames(w.Streams[(*r)[0].Session])
			stream(&(*r)[0], bytes.Join(fs[:len(fs)-1], nil))
		}, "recording"},
		"two records swapped": {func(w *world, _ *Evidence, r *[]Recording) {
			fs := frames(w.Streams[(*r)[0].Session])
			fs[1], fs[2] = fs[2], fs[1]
			stream(&(*r)[0], bytes.Join(fs, nil))
		}, "recording"},
		"a record repeated at the end": {func(w *world, _ *Evidence, r *[]Recording) {
			fs := frames(w.Streams[(*r)[0].Session])
			stream(&(*r)[0], bytes.Join(append(fs, fs[1]), nil))
		}, "recording"},
		"no stream at all":       {func(_ *world, _ *Evidence, r *[]Recording) { stream(&(*r)[0], nil) }, "recording"},
		"another request's name": {func(_ *world, e *Evidence, _ *[]Recording) { e.Request = "222-222" }, "is about request"},
		"no entries":             {func(_ *world, e *Evidence, _ *[]Recording) { e.Entries = nil }, "site.created"},
		"a checkpoint of other size": {func(_ *world, e *Evidence, _ *[]Recording) {
			e.Checkpoint = strings.Replace(e.Checkpoint, "\n", "\n1", 1)
		}, "checkpoint"},
	} {
		w := granted(t, 2)
		b := w.write(t, w.Read(), func(e *Evidence, r *[]Recording) { c.do(w, e, r) })
		v := w.verify(b, w.Reader)
		if out := text(t, v); v.Result != Failed || !strings.HasPrefix(out, "FAILED ") || !strings.Contains(out, c.where) {
			t.Errorf("%s: %s", what, out)
		}
	}
}

// The last session can be cut off with all that speaks of it, and every proof still holds: so the verdict counts the sessions and says so.
func TestTheLastSessionCutOff(t *testing.T) {
	w := granted(t, 2)
	last := w.Granted.Statement.ID.Session(2)
	b := w.write(t, nil, func(e *Evidence, r *[]Recording) {
		e.Entries = slices.DeleteFunc(e.Entries, func(p Entry) bool {
			x, err := ledger.Decode([]byte(p.Entry))
			return err == nil && x.Subject.Session == last
		})
		*r = (*r)[:1]
	})
	if out := text(t, w.verify(b, w.Reader)); !strings.Contains(out, "sessions in the bundle: 1; whether a later one was cut off it can't show") {
		t.Error(out)
	}
}

func foreignEntry(w *world, e *Evidence) {
	for i, raw := range w.Entries {
		if x, err := ledger.Decode(raw); err == nil && x.Type() == "request.opened" && x.Subject.Person == "bob" {
			e.Entries = slices.Insert(e.Entries, len(e.Entries)-8, Entry{int64(i), string(raw), w.Prove(int64(i))})
			slices.SortFunc(e.Entries, func(a, b Entry) int { return int(a.Index - b.Index) })
			return
		}
	}
}

// TestTrust holds a true bundle against other pins.
func TestTrust(t *testing.T) {
	w := granted(t, 1)
	b := w.bundle(t, nil)
	other := granted(t, 1)
	for what, c := range map[string]struct {
		change func(*Trust)
		says   string
	}{
		"a foreign ledger key":                   {func(p *Trust) { p.Site.LedgerKey = other.VKey }, "checkpoint refused"},
		"another installation":                   {func(p *Trust) { *p = other.trust() }, "checkpoint refused"},
		"another origin":                         {func(p *Trust) { p.Site.Origin = "x.test" }, "origin"},
		"another epoch":                          {func(p *Trust) { p.Site.Epoch = 2 }, "epoch 2"},
		"another client CA":                      {func(p *Trust) { p.Site.ClientCA = other.Site.ClientCA }, "not signed by the pinned CA"},
		"another session CA":                     {func(p *Trust) { p.Site.SessionCA = other.Site.SessionCA }, "not signed by the pinned CA"},
		"a checkpoint of another log":            {func(p *Trust) { p.Checkpoint = other.Pins }, "pins"},
		"a checkpoint of a fork by the same key": {func(p *Trust) { p.Checkpoint = fork(t, w) }, "another history"},
		"nothing pinned":                         {func(p *Trust) { *p = Trust{} }, "ledger key"},
	} {
		p := w.trust()
		c.change(&p)
		v := Verify(bytes.NewReader(b), p, Options{})
		if out := text(t, v); v.Result != Failed || !strings.Contains(out, c.says) {
			t.Errorf("%s: %s", what, out)
		}
	}
	// Later pins know more than the bundle: said, and no fault. To a CA that was asked just now it is one.
	w.Log.Grant(w.Alice, nil)
	p := w.trust()
	p.Checkpoint = w.Checkpoint()
	if v := Verify(bytes.NewReader(b), p, Options{}); v.Result != VerifiedSealed || !strings.Contains(text(t, v), "was not checked") {
		t.Error("later pins:", text(t, v))
	}
	if v := Verify(bytes.NewReader(b), p, Options{Fresh: true}); v.Result != Failed {
		t.Error("a CA that forgot:", text(t, v))
	}
	p.Checkpoint = ""
	if v := Verify(bytes.NewReader(b), p, Options{}); v.Result != VerifiedSealed {
		t.Error("pins without a checkpoint:", text(t, v))
	}
}

// fork signs another history of the pins' size with the true key.
func fork(t *testing.T, w *world) string {
	pin, err := ledger.OpenCheckpoint(w.Pins, w.VKey)
	if err != nil {
		t.Fatal(err)
	}
	entries, tree := w.Entries, w.Tree
	defer func() { w.Entries, w.Tree = entries, tree }()
	w.Entries, w.Tree = nil, &ledger.Memory{}
	for i := range pin.Size {
		w.AppendRaw(append([]byte("x"), entries[i]...))
	}
	return w.Checkpoint()
}

// TestRewritten are worlds whose CA lied in its ledger, with the true ledger key.
func TestRewritten(t *testing.T) {
	for what, c := range map[string]struct {
		make func(w *world)
		says string
	}{
		"no PIN where the policy wants it": {func(w *world) { w.grantNoPIN(t) }, "neither PIN nor finger"},
		"no touch": {func(w *world) {
			st := w.Request(w.Alice, ledgertest.NewKey(t).PublicKey())
			text, sig := w.Alice.Silent(st)
			w.Granted = w.GrantSigned(w.Alice, &ledgertest.Grant{}, st, text, sig)
		}, "not touched"},
		"a statement for another client key": {func(w *world) {
			w.Granted = w.Log.Grant(w.Alice, func(r *statement.Request) { r.ClientKey = "SHA256:other" })
		}, "over key"},
		"a session by another CA": {func(w *world) {
			w.Granted = w.Log.Grant(w.Alice, nil)
			w.SessionCA = ledgertest.NewKey(t)
			w.Record(t, "")
		}, "not signed by the pinned CA"},
		"a session hidden from the middle": {func(w *world) {
			w.Granted = w.Log.Grant(w.Alice, nil)
			w.Granted.Sessions = 1
			w.Record(t, "")
		}, "session 1 of the request is missing"},
		"an end signed by somebody else": {func(w *world) {
			w.Granted = w.Log.Grant(w.Alice, nil)
			s := w.Record(t, "open")
			w.Jump.Key = ledgertest.NewKey(t)
			w.Fact(w.Jump, s.Subject, &ledger.SessionEnded{})
		}, "signature"},
		"another stream than the jump signed while it ran": {func(w *world) {
			w.Granted = w.Log.Grant(w.Alice, nil)
			w.Record(t, "rewritten")
		}, "chain"},
		"a head of other bytes": {func(w *world) {
			w.Granted = w.Log.Grant(w.Alice, nil)
			w.Record(t, "stretched")
		}, "anchored was"},
		"another stream stored than was sealed": {func(w *world) {
			w.Granted = w.Log.Grant(w.Alice, nil)
			s := w.Record(t, "unstored")
			w.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s.Subject, Facts: &ledger.TranscriptStored{}})
		}, "is not what jump jump-a sealed"},
	} {
		w := begin(t)
		c.make(w)
		v := w.verify(w.bundle(t, nil))
		if out := text(t, v); v.Result != Failed || !strings.Contains(out, c.says) {
			t.Errorf("%s: %s", what, out)
		}
	}
}

func (w *world) grantNoPIN(t *testing.T) {
	st := w.Request(w.Alice, ledgertest.NewKey(t).PublicKey())
	text, sig := w.Alice.TouchOnly(st)
	w.Granted = w.GrantSigned(w.Alice, &ledgertest.Grant{}, st, text, sig)
}

func TestVerifyFrom(t *testing.T) {
	w := granted(t, 2)
	id := w.Granted.Statement.ID
	check := func(what string, want Result, o Options, env map[name.SessionID][]byte) {
		t.Helper()
		v, err := VerifyFrom(t.Context(), w, w.want(env), w.trust(), o)
		if err != nil {
			t.Fatal(what, err)
		}
		if v.Result != want {
			t.Errorf("%s: %s", what, text(t, v))
		}
	}
	check("as it is", VerifiedSealed, Options{}, nil)
	check("read", Verified, Options{Identities: []age.Identity{w.Reader}}, w.Read())
	first := id.Session(1)
	good := w.Streams[first]
	w.Streams[first] = good[:len(good)-5]
	check("a stream cut short in the store", Failed, Options{}, nil)
	w.Streams[first] = append(slices.Clone(good), good...)
	check("a stream grown in the store", Failed, Options{}, nil)
	w.Streams[first] = bytes.Repeat([]byte{0xff}, len(good))
	check("a stream overwritten in the store", Failed, Options{}, nil)
	delete(w.Streams, first)
	check("a stream gone from the store", Failed, Options{}, nil)
	w.Streams[first] = good
	if _, err := VerifyFrom(t.Context(), down{w}, w.want(nil), w.trust(), Options{}); !errors.Is(err, errDown) {
		t.Errorf("a CA that is gone in the middle: %v", err)
	}
	one := w.want(nil)
	one.Only = id.Session(2)
	delete(w.Streams, first)
	if v, err := VerifyFrom(t.Context(), w, one, w.trust(), Options{}); err != nil || v.Result != VerifiedSealed || !strings.Contains(text(t, v), "was not looked at") {
		t.Errorf("one of two: %v %s", err, text(t, v))
	}
	one.Only = id.Session(3)
	if v, err := VerifyFrom(t.Context(), w, one, w.trust(), Options{}); err != nil || v.Result != Failed {
		t.Errorf("a session that never was: %v %s", err, text(t, v))
	}
	w.Streams[first] = good
	w.Pins = fork(t, w)
	check("a CA whose history is not the pins'", Failed, Options{}, nil)
}

var errDown = errors.New("connection lost")

// down loses its connection in the middle of each stream.
type down struct{ *world }

func (d down) Transcript(ctx context.Context, id name.SessionID) (io.ReadCloser, error) {
	b := d.Streams[id]
	return io.NopCloser(io.MultiReader(bytes.NewReader(b[:len(b)-10]), broken{})), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errDown }

func TestOpen(t *testing.T) {
	w := granted(t, 2)
	sealed, b := w.bundle(t, nil), w.bundle(t, w.Read())
	id := w.Granted.Statement.ID
	for _, s := range []name.SessionID{id.Session(1), id.Session(2)} {
		r, err := Open(bytes.NewReader(b), s, w.Reader)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for e, err := range r.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == transcript.KindOutput {
				out = append(out, e.Data...)
			}
		}
		if want := strings.Repeat("file of "+string(s)+"\r\n", 3); string(out) != want {
			t.Errorf("%q, want %q", out, want)
		}
	}
	if r, err := Open(bytes.NewReader(b), "", w.Reader); err != nil || r.Header().Session != id.Session(1) {
		t.Error("the first:", err)
	}
	if _, err := Open(bytes.NewReader(b), id.Session(3), w.Reader); !errors.Is(err, ErrNoRecording) {
		t.Error(err)
	}
	if _, err := Open(bytes.NewReader(sealed), "", w.Reader); !errors.Is(err, ErrNoEnvelope) {
		t.Error(err)
	}
	if _, err := Open(bytes.NewReader(b), ""); !errors.Is(err, transcript.ErrNotRecipient) {
		t.Error(err)
	}
}

func TestPrintable(t *testing.T) {
	v := &Verdict{Result: Failed, Failures: []Failure{{"entry 1", "\x1b[2J\u202eroot\nVERIFIED " + strings.Repeat("x", 2000)}}}
	out := text(t, v)
	if strings.ContainsAny(out[:len(out)-1], "\x1b\u202e\n") || len(out) > maxLine+10 {
		t.Errorf("%q", out)
	}
}

func TestArchive(t *testing.T) {
	w := granted(t, 0)
	b := w.bundle(t, nil)
	sums := map[string]bool{}
	for _, bad := range [][]byte{nil, b[:512], make([]byte, 1024), bytes.Repeat([]byte("x"), 5000)} {
		v := w.verify(bad)
		if v.Result != Failed || v.Failures[0].Where != "bundle" {
			t.Errorf("%d bytes: %s", len(bad), text(t, v))
		}
		sums[fmt.Sprint(v.Failures)] = true
	}
	if len(sums) < 2 {
		t.Error("each fault reads alike:", sums)
	}
}

// TestStockTar reads a bundle as any tar does.
func TestStockTar(t *testing.T) {
	w := granted(t, 1)
	r := tar.NewReader(bytes.NewReader(w.bundle(t, w.Read())))
	s := w.Granted.Statement.ID.Session(1)
	for _, want := range []struct {
		name string
		body []byte
	}{{"bundle.json", nil}, {s.File() + ".envelope", w.Envelopes[s]}, {s.File() + ".transcript", w.Streams[s]}} {
		h, err := r.Next()
		if err != nil || h.Name != want.name || h.Typeflag != tar.TypeReg {
			t.Fatal(h, err)
		}
		b, err := io.ReadAll(r)
		if err != nil || want.body != nil && !bytes.Equal(b, want.body) {
			t.Errorf("%s: %d bytes, %v", h.Name, len(b), err)
		}
		if want.body == nil && !json.Valid(b) {
			t.Errorf("%s is no JSON", h.Name)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	w := granted(f, 2)
	b := w.bundle(f, w.Read())
	f.Add(b)
	f.Add(w.bundle(f, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		v := w.verify(data, w.Reader)
		if v.Result != Failed && !bytes.Equal(data, b) && v.Result == Verified {
			t.Fatal("another bundle of the same name verifies")
		}
		if err := v.WriteText(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
