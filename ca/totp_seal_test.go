package ca

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"
)

func TestASealedSeedOpensForItsOwnerAlone(t *testing.T) {
	s := totpSealer{key: bytes.Repeat([]byte{7}, 32), origin: "breakglass/test/demo/00c0ffee"}
	seed, made := bytes.Repeat([]byte{1}, totpSeedSize), time.Unix(1_800_000_000, 0)
	sealed, err := s.seal(seed, "alice", "phone", made)
	if err != nil || len(sealed) != totpSealedSize || bytes.Contains(sealed, seed) {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	if got, at, err := s.open(sealed, "alice", "phone"); err != nil || !bytes.Equal(got, seed) || !at.Equal(made) {
		t.Errorf("%x, %v, %v", got, at, err)
	}
	if again, _ := s.seal(seed, "alice", "phone", made); bytes.Equal(again, sealed) {
		t.Error("sealed twice alike: key and nonce came twice")
	}
	for what, open := range map[string]func() error{
		"another person": func() error { _, _, err := s.open(sealed, "bob", "phone"); return err },
		"another device": func() error { _, _, err := s.open(sealed, "alice", "tablet"); return err },
		"another CA":     func() error { _, _, err := totpSealer{s.key, "x"}.open(sealed, "alice", "phone"); return err },
		"another state key": func() error {
			_, _, err := totpSealer{make([]byte, 32), s.origin}.open(sealed, "alice", "phone")
			return err
		},
		"cut off": func() error { _, _, err := s.open(sealed[:len(sealed)-1], "alice", "phone"); return err },
		"nothing": func() error { _, _, err := s.open(nil, "alice", "phone"); return err },
	} {
		if open() == nil {
			t.Errorf("%s: opened", what)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, _, err := s.open(bad, "alice", "phone"); err == nil {
			t.Errorf("byte %d changed: opened", i)
		}
	}
}

// TestRFC6238: the vectors of appendix B for SHA-1, their last six digits.
func TestRFC6238(t *testing.T) {
	seed := []byte("12345678901234567890")
	for at, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if step, err := totpMatch(seed, code, time.Unix(at, 0)); err != nil || step != at/30 {
			t.Errorf("%d: step %d, %v", at, step, err)
		}
	}
}

func FuzzSealedSeed(f *testing.F) {
	s := totpSealer{key: make([]byte, 32), origin: "o"}
	rand.Read(s.key) // another in each worker: what one of them sealed opens nowhere else
	good, err := s.seal(make([]byte, totpSeedSize), "alice", "phone", time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := s.open(b, "alice", "phone"); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("%x opened", b)
		}
	})
}
