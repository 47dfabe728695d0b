package reader

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"breakglass/agent/fido2/wire"
	"breakglass/internal/name"
)

var update = flag.Bool("update", false, "write golden files that are missing")

// aKey is a hardware key as this package sees one: a secret for each salt.
type aKey struct {
	name name.Key
	wire.Key
}

func newKey(n string) aKey {
	return aKey{name.Key(n), wire.Key{CredentialID: []byte("credential of " + n), PublicKey: []byte("public key of " + n)}}
}

// derive stands for the key's hmac-secret: another value for each key and salt. What a real key says is tested over libfido2 (agent/fido2) and by
// cmd/breakglass.
func (k aKey) derive(salt []byte) *Secret {
	var s Secret
	copy(s[:], derive([]byte("the random of "+k.name), salt, "test"))
	return &s
}

func identity(t testing.TB) (*age.HybridIdentity, []byte) {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id, []byte("# created: then\n" + id.String() + "\n")
}

func sealed(t testing.TB, text []byte, ks ...aKey) *Opened {
	t.Helper()
	o, err := New(text, time.Unix(1700000000, 5))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range ks {
		salt := NewSalt()
		if err := o.Add(k.name, k.Key, salt, k.derive(salt)); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func TestEachKeyOpensTheSameIdentities(t *testing.T) {
	id, text := identity(t)
	old, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, old.String()+"\n"...)
	a, b := newKey("blue"), newKey("red")
	file := sealed(t, text, a, b).Marshal()
	f, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Recipient != id.Recipient().String() || len(f.Wraps) != 2 || f.Wraps[1].Name != "red" || !f.Created.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("%+v", f)
	}
	if bytes.Contains(file, []byte("AGE-SECRET")) {
		t.Error("the secret stands in the file")
	}
	for i, k := range []aKey{a, b} {
		o, err := f.Open(i, k.derive(f.Wraps[i].Salt))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(o.Identities, text) {
			t.Errorf("%s: %q", k.name, o.Identities)
		}
		// A key more, let in by one that can: the others go on.
		c := newKey("green")
		salt := NewSalt()
		if err := o.Add(c.name, c.Key, salt, c.derive(salt)); err != nil {
			t.Fatal(err)
		}
		g, err := Parse(o.Marshal())
		if err != nil || len(g.Wraps) != 3 {
			t.Fatal(err)
		}
		for j, k := range []aKey{a, b, c} {
			if _, err := g.Open(j, k.derive(g.Wraps[j].Salt)); err != nil {
				t.Errorf("%s: %v", k.name, err)
			}
		}
		o.Wipe()
		if bytes.Contains(o.Identities, []byte("AGE")) || !bytes.Equal(o.fileKey, make([]byte, keyLen)) {
			t.Error("not wiped")
		}
	}
}

func TestWhatOpensNothing(t *testing.T) {
	_, text := identity(t)
	_, other := identity(t)
	a, b := newKey("blue"), newKey("red")
	o := sealed(t, text, a, b)
	theirs := sealed(t, other, a)
	parse := func(b []byte) *File {
		t.Helper()
		f, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	file := o.Marshal()
	for what, c := range map[string]struct {
		change func(f *File)
		key    aKey
		i      int
	}{
		"another key's secret":            {func(*File) {}, b, 0},
		"the salts swapped":               {func(f *File) { f.Wraps[0].Salt, f.Wraps[1].Salt = f.Wraps[1].Salt, f.Wraps[0].Salt }, a, 0},
		"the boxes swapped":               {func(f *File) { f.Wraps[0].box, f.Wraps[1].box = f.Wraps[1].box, f.Wraps[0].box }, a, 0},
		"a box changed":                   {func(f *File) { f.Wraps[0].box[3] ^= 1 }, a, 0},
		"another credential id":           {func(f *File) { f.Wraps[0].Key.CredentialID = []byte("x") }, a, 0},
		"another public key":              {func(f *File) { f.Wraps[0].Key.PublicKey = []byte("x") }, a, 0},
		"another recipient":               {func(f *File) { f.Recipient = theirs.Recipient }, a, 0},
		"a line of another file":          {func(f *File) { f.Wraps[0] = theirs.Wraps[0] }, a, 0},
		"another file's identities":       {func(f *File) { f.sealed = theirs.sealed }, a, 0},
		"another name for the key":        {func(f *File) { f.Wraps[0].Name = "green" }, a, 0},
		"another time":                    {func(f *File) { f.Created = f.Created.Add(time.Hour) }, a, 0},
		"a key taken out":                 {func(f *File) { f.Wraps = f.Wraps[:1] }, a, 0},
		"a key's line twice":              {func(f *File) { f.Wraps = append(f.Wraps, f.Wraps[0]) }, a, 0},
		"the keys in another order":       {func(f *File) { f.Wraps[0], f.Wraps[1] = f.Wraps[1], f.Wraps[0] }, a, 1},
		"the mac changed":                 {func(f *File) { f.mac[0] ^= 1 }, a, 0},
		"the identities changed":          {func(f *File) { f.sealed[0] ^= 1 }, a, 0},
		"the identities cut":              {func(f *File) { f.sealed = f.sealed[:len(f.sealed)-1] }, a, 0},
		"another salt, its secret theirs": {func(f *File) { f.Wraps[0].Salt = NewSalt() }, a, 0},
	} {
		f := parse(file)
		c.change(f)
		f = parse(f.Marshal())
		if got, err := f.Open(c.i, c.key.derive(f.Wraps[c.i].Salt)); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	// Whoever holds the file key could seal other identities; the recipient still has to be theirs.
	forged := *o
	forged.Recipient = theirs.Recipient
	forged.Wraps = nil
	var err error
	if forged.sealed, err = seal(derive(o.fileKey, nil, "identities\n"+forged.Recipient+"\n"), text); err != nil {
		t.Fatal(err)
	}
	salt := NewSalt()
	if err := forged.Add(a.name, a.Key, salt, a.derive(salt)); err != nil {
		t.Fatal(err)
	}
	if _, err := parse(forged.Marshal()).Open(0, a.derive(salt)); !errors.Is(err, ErrChanged) {
		t.Errorf("identities that are not the recipient's: %v", err)
	}
	if _, err := New([]byte("# nothing\n"), time.Now()); err == nil {
		t.Error("sealed no identity")
	}
}

// TestEveryBitOfAFile: whatever one changes, the file is refused or doesn't open.
func TestEveryBitOfAFile(t *testing.T) {
	_, text := identity(t)
	a := newKey("blue")
	file := sealed(t, text, a).Marshal()
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < len(file)*8; i += step {
		b := bytes.Clone(file)
		b[i/8] ^= 1 << (i % 8)
		f, err := Parse(b)
		if err != nil {
			continue
		}
		if _, err := f.Open(0, a.derive(f.Wraps[0].Salt)); err == nil {
			t.Fatalf("bit %d changed: it opens", i)
		}
	}
}

func TestWhatIsNoFile(t *testing.T) {
	_, text := identity(t)
	file := string(sealed(t, text, newKey("blue")).Marshal())
	line := func(field string) string {
		for l := range strings.Lines(file) {
			if strings.HasPrefix(l, field+": ") {
				return l
			}
		}
		t.Fatal(field)
		return ""
	}
	for what, b := range map[string]string{
		"nothing":             "",
		"another version":     strings.Replace(file, "reader v1", "reader v2", 1),
		"no key":              strings.Replace(file, line("key"), "", 1),
		"17 keys":             strings.Replace(file, line("key"), strings.Repeat(line("key"), MaxKeys+1), 1),
		"no mac":              strings.Replace(file, line("mac"), "", 1),
		"two macs":            file + line("mac"),
		"a line more":         file + "\n",
		"no last newline":     strings.TrimSuffix(file, "\n"),
		"CRLF":                strings.ReplaceAll(file, "\n", "\r\n"),
		"padding":             strings.Replace(file, line("mac"), strings.TrimSuffix(line("mac"), "\n")+"=\n", 1),
		"an unknown field":    strings.Replace(file, "created: ", "colour: red\ncreated: ", 1),
		"local time":          strings.Replace(file, "Z\n", "+00:00\n", 1),
		"a name that is none": strings.Replace(file, "key: blue", "key: Blue!", 1),
		"two spaces":          strings.Replace(file, "key: blue ", "key: blue  ", 1),
		"too long":            file + strings.Repeat("x", MaxFile),
	} {
		if _, err := Parse([]byte(b)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestGolden: a file of version 1 opens for ever.
func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "v1", "two-keys.reader")
	a, b := newKey("blue"), newKey("red")
	if _, err := os.Stat(path); *update && err != nil {
		_, text := identity(t)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, sealed(t, text, a, b).Marshal(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range []aKey{a, b} {
		o, err := f.Open(i, k.derive(f.Wraps[i].Salt))
		if err != nil || !bytes.Contains(o.Identities, []byte("\nAGE-SECRET-KEY-PQ-1")) {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "v1", "two-keys.reader"))
	if err != nil {
		f.Fatal(err)
	}
	a := newKey("blue")
	file, err := Parse(golden)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := file.Open(0, a.derive(file.Wraps[0].Salt)); err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(label))
	f.Add([]byte(fmt.Sprintf("%srecipient: age1\ncreated: 2026-11-25T12:00:00Z\nkey: a YQ YQ %s %s\nidentities: YQ\nmac: %s\n", label,
		b64.EncodeToString(make([]byte, 32)), b64.EncodeToString(make([]byte, boxLen)), b64.EncodeToString(make([]byte, 32)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatal("written back otherwise")
		}
		for i := range p.Wraps {
			if _, err := p.Open(i, a.derive(p.Wraps[i].Salt)); err == nil && !bytes.Equal(p.Marshal(), golden) {
				t.Fatal("another file opens")
			}
		}
	})
}
