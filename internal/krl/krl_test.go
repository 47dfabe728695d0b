package krl_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/krl"
)

var update = flag.Bool("update", false, "write golden files that don't exist yet")

func key(t testing.TB, seed byte) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cert(t testing.TB, ca ssh.Signer, serial uint64, id string) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{Key: key(t, 200).PublicKey(), Serial: serial, CertType: ssh.UserCert, KeyId: id, ValidPrincipals: []string{"x"},
		ValidBefore: ssh.CertTimeInfinity}
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return c
}

// every is a list with each kind of section.
func every(t testing.TB) *krl.List {
	dense := []krl.Range{}
	for n := uint64(9000); n < 9400; n += 3 {
		dense = append(dense, krl.Single(n))
	}
	return &krl.List{Version: 42, Generated: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC), Comment: "breakglass.test/demo",
		CAs: []krl.CA{{Key: key(t, 1).PublicKey(), KeyIDs: []string{"breakglass:aaa-aaa:alice", "breakglass:k7f-2mq:bob"},
			Serials: krl.Ranges(append(dense, krl.Single(7), krl.Single(1<<63+5), krl.Range{Lo: 100, Hi: 5000}, krl.Single(1<<64-1)))},
			{Key: key(t, 2).PublicKey(), Serials: []krl.Range{krl.Single(12)}}},
		Keys: []ssh.PublicKey{key(t, 3).PublicKey()}, SHA256: [][32]byte{sha(key(t, 4).PublicKey())}}
}

func sha(k ssh.PublicKey) [32]byte { return sha256.Sum256(k.Marshal()) }

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for what, l := range map[string]*krl.List{
		"nothing revoked": {Version: 1, Generated: time.Unix(0, 0).UTC()},
		"every section":   every(t),
		"the last serials of all, dense": {Version: 1, Generated: time.Unix(0, 0).UTC(), CAs: []krl.CA{{Key: key(t, 1).PublicKey(),
			Serials: []krl.Range{krl.Single(1<<64 - 9), krl.Single(1<<64 - 7), krl.Single(1<<64 - 5), krl.Single(1<<64 - 3), krl.Single(1<<64 - 1)}}}},
	} {
		b, err := l.Marshal()
		if err != nil {
			t.Fatal(what, err)
		}
		got, err := krl.Parse(b)
		if err != nil {
			t.Fatal(what, err)
		}
		if !reflect.DeepEqual(got, l) {
			t.Errorf("%s: %+v, written was %+v", what, got, l)
		}
	}
}

func TestGolden(t *testing.T) {
	b, err := every(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "v1", "every.hex")
	want, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && *update {
		os.MkdirAll(filepath.Dir(file), 0o755)
		want = []byte(hex.Dump(b))
		err = os.WriteFile(file, want, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if hex.Dump(b) != string(want) {
		t.Errorf("the bytes changed: %s", hex.Dump(b))
	}
}

// Stock ssh-keygen and we agree on every kind of section, revoked or not.
func TestSSHKeygenAgrees(t *testing.T) {
	l, dir := every(t), t.TempDir()
	b, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "krl")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-Q", "-l", "-f", list).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen can't read it: %v\n%s", err, out)
	}
	for _, c := range []struct {
		what string
		key  ssh.PublicKey
		want bool
	}{
		{"a serial of the list", cert(t, key(t, 1), 7, "x"), true},
		{"a large serial", cert(t, key(t, 1), 1<<63+5, "x"), true},
		{"the largest serial", cert(t, key(t, 1), 1<<64-1, "x"), true},
		{"the serial beside it", cert(t, key(t, 1), 8, "x"), false},
		{"the first of a range", cert(t, key(t, 1), 100, "x"), true},
		{"the middle of a range", cert(t, key(t, 1), 2500, "x"), true},
		{"the last of a range", cert(t, key(t, 1), 5000, "x"), true},
		{"before the range", cert(t, key(t, 1), 99, "x"), false},
		{"after the range", cert(t, key(t, 1), 5001, "x"), false},
		{"the first of a bitmap", cert(t, key(t, 1), 9000, "x"), true},
		{"in the bitmap", cert(t, key(t, 1), 9003, "x"), true},
		{"a hole of the bitmap", cert(t, key(t, 1), 9004, "x"), false},
		{"the last of the bitmap", cert(t, key(t, 1), 9399, "x"), true},
		{"after the bitmap", cert(t, key(t, 1), 9400, "x"), false},
		{"a key id", cert(t, key(t, 1), 1, "breakglass:k7f-2mq:bob"), true},
		{"another key id", cert(t, key(t, 1), 1, "breakglass:k7f-2mq:bo"), false},
		{"a serial of the other CA", cert(t, key(t, 2), 12, "x"), true},
		{"a serial that only the first CA revoked", cert(t, key(t, 2), 7, "x"), false},
		{"a key id that only the first CA revoked", cert(t, key(t, 2), 1, "breakglass:k7f-2mq:bob"), false},
		{"a certificate without serial", cert(t, key(t, 1), 0, "x"), false},
		{"a certificate of a retired CA", cert(t, key(t, 3), 1, "x"), true},
		{"a certificate of a CA by fingerprint", cert(t, key(t, 4), 1, "x"), true},
		{"a key", key(t, 3).PublicKey(), true},
		{"a key by fingerprint", key(t, 4).PublicKey(), true},
		{"another key", key(t, 5).PublicKey(), false},
		{"a CA's own key, whose certificates are revoked one by one", key(t, 1).PublicKey(), false},
	} {
		if got := l.Revokes(c.key); got != c.want {
			t.Errorf("%s: we say revoked=%v", c.what, got)
		}
		file := filepath.Join(dir, "key.pub")
		if err := os.WriteFile(file, ssh.MarshalAuthorizedKey(c.key), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ssh-keygen", "-Q", "-f", list, file).CombinedOutput()
		// It ends with 1 for a revoked key, and for a list that it can't read: the text tells.
		if got := err != nil && strings.Contains(string(out), "REVOKED"); got != c.want || !got && err != nil {
			t.Errorf("%s: ssh-keygen says %q, %v", c.what, out, err)
		}
	}
}

// What ssh-keygen writes is what we read.
func TestListsOfSSHKeygenAreRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	ca := write("ca.pub", string(ssh.MarshalAuthorizedKey(key(t, 1).PublicKey())))
	spec := "id: somebody\n"
	for _, s := range []string{"5", "100-5000", "9223372036854775813"} {
		spec += "serial: " + s + "\n"
	}
	for n := 9000; n < 9400; n += 3 {
		spec += fmt.Sprintf("serial: %d\n", n)
	}
	list := filepath.Join(dir, "krl")
	if out, err := exec.Command("ssh-keygen", "-k", "-f", list, "-z", "7", "-s", ca, write("spec", spec)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	l, err := krl.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if l.Version != 7 {
		t.Errorf("version %d", l.Version)
	}
	for serial, want := range map[uint64]bool{5: true, 6: false, 100: true, 5000: true, 5001: false, 9000: true, 9001: false, 9399: true, 9223372036854775813: true} {
		if got := l.Revokes(cert(t, key(t, 1), serial, "x")); got != want {
			t.Errorf("serial %d: %v", serial, got)
		}
	}
	if !l.Revokes(cert(t, key(t, 1), 1, "somebody")) {
		t.Error("the key id is not read")
	}
}

func TestWriterRefuses(t *testing.T) {
	c := cert(t, key(t, 1), 1, "x")
	for what, l := range map[string]*krl.List{
		"serial 0":                   {CAs: []krl.CA{{Key: key(t, 1).PublicKey(), Serials: []krl.Range{krl.Single(0)}}}},
		"an empty key id":            {CAs: []krl.CA{{Key: key(t, 1).PublicKey(), KeyIDs: []string{""}}}},
		"no CA":                      {CAs: []krl.CA{{Serials: []krl.Range{krl.Single(1)}}}},
		"a certificate among a keys": {Keys: []ssh.PublicKey{c}},
	} {
		if _, err := l.Marshal(); err == nil {
			t.Errorf("%s is written", what)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	b, err := every(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		"nothing":             {},
		"the common mistake":  append([]byte("SSHKRL\x00\x00"), b[8:]...),
		"another version":     append(append(bytes.Clone(b[:8]), 0, 0, 0, 2), b[12:]...),
		"an unknown section":  append(bytes.Clone(b), 4, 0, 0, 0, 0),
		"half of it":          b[:len(b)/2],
		"something behind":    append(bytes.Clone(b), 1),
		"more than the limit": append(bytes.Clone(b), make([]byte, krl.MaxSize)...),
	} {
		if _, err := krl.Parse(bad); !errors.Is(err, krl.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := every(f).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(krl.Magic))
	empty, err := (&krl.List{Version: 3, Generated: time.Unix(5, 0)}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := krl.Parse(data)
		if err != nil {
			if !errors.Is(err, krl.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := l.Marshal()
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		back, err := krl.Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		// Written once it is in order: from then on it stays the same.
		third, err := back.Marshal()
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%v: written %x, then %x", err, again, third)
		}
	})
}
