package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"breakglass/internal/statement"
)

const testOrigin = "breakglass.test/ledger"

func tree(t testing.TB, n int) (*Memory, [][]byte) {
	t.Helper()
	m := &Memory{}
	var es [][]byte
	for i := range n {
		e := fmt.Appendf(nil, "entry %d", i)
		if err := m.Append(e); err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	if got := int64(len(m.hashes)); got != HashCount(int64(n)) {
		t.Fatalf("%d hashes stored, want %d", got, HashCount(int64(n)))
	}
	return m, es
}

func TestInclusion(t *testing.T) {
	m, es := tree(t, 11)
	for size := int64(1); size <= 11; size++ {
		pin, err := m.Checkpoint(size)
		if err != nil {
			t.Fatal(err)
		}
		cp := Checkpoint{testOrigin, pin.Size, pin.Root}
		for i := range size {
			p, err := ProveInclusion(size, i, m)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckInclusion(es[i], i, p, cp); err != nil {
				t.Errorf("entry %d of %d: %v", i, size, err)
			}
			bad := func(what string, err error) {
				if !errors.Is(err, ErrProof) {
					t.Errorf("entry %d of %d: %s: %v", i, size, what, err)
				}
			}
			bad("another entry", CheckInclusion([]byte("entry x"), i, p, cp))
			bad("past the end", CheckInclusion(es[i], size, p, cp))
			bad("negative", CheckInclusion(es[i], -1, p, cp))
			bad("a hash more", CheckInclusion(es[i], i, append([]statement.Hash{{1}}, p...), cp))
			bad("no end of hashes", CheckInclusion(es[i], i, make([]statement.Hash, MaxProof+1), cp))
			for k := range p {
				q := append([]statement.Hash(nil), p...)
				q[k][3] ^= 1
				bad("a changed hash", CheckInclusion(es[i], i, q, cp))
			}
			if size > 1 {
				bad("no proof", CheckInclusion(es[i], i, nil, cp))
				bad("at another place", CheckInclusion(es[i], (i+1)%size, p, cp))
			}
		}
	}
	if _, err := ProveInclusion(11, 11, m); err == nil {
		t.Error("proved an entry that is not there")
	}
}

func TestConsistency(t *testing.T) {
	m, _ := tree(t, 11)
	other, _ := tree(t, 4)
	other.Append([]byte("history rewritten"))
	for to := int64(0); to <= 11; to++ {
		for from := int64(0); from <= to; from++ {
			a, err := m.Checkpoint(from)
			if err != nil {
				t.Fatal(err)
			}
			b, err := m.Checkpoint(to)
			if err != nil {
				t.Fatal(err)
			}
			p, err := ProveConsistency(from, to, m)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckConsistency(a, b, p); err != nil {
				t.Errorf("%d to %d: %v", from, to, err)
			}
			a.Root[0] ^= 1
			if err := CheckConsistency(a, b, p); !errors.Is(err, ErrProof) {
				t.Errorf("%d to %d: a changed root: %v", from, to, err)
			}
		}
	}
	fork, err := other.Checkpoint(5)
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.Checkpoint(11)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ProveConsistency(5, 11, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckConsistency(fork, head, p); !errors.Is(err, ErrProof) {
		t.Errorf("a fork: %v", err)
	}
	if err := CheckConsistency(head, fork, nil); !errors.Is(err, ErrProof) {
		t.Errorf("a shorter history: %v", err)
	}
	if _, err := ProveConsistency(5, 4, m); err == nil {
		t.Error("proved backwards")
	}
}

func TestCheckpoint(t *testing.T) {
	skey, vkey, err := GenerateKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(skey + "\n")
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{testOrigin, 7, EntryHash([]byte("x"))}
	signed, err := c.Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := OpenCheckpoint(signed, vkey)
	if err != nil || back != c {
		t.Fatalf("%v, %v", back, err)
	}
	_, foreign, err := GenerateKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(signed, foreign); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("a foreign key of the same origin: %v", err)
	}
	for i := range len(signed) {
		for _, bit := range []byte{1, 0x20} {
			b := []byte(signed)
			b[i] ^= bit
			if got, err := OpenCheckpoint(string(b), vkey); err == nil && got != c {
				t.Errorf("byte %d changed: %v", i, got)
			} else if err == nil && i < strings.Index(signed, "\n\n") {
				t.Errorf("byte %d of the text changed and accepted", i)
			}
		}
	}
	if _, err := OpenCheckpoint(signed+strings.Repeat("x", MaxCheckpoint), vkey); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("too long: %v", err)
	}
	if _, err := (Checkpoint{"another.test", 1, c.Root}).Sign(s); err == nil {
		t.Error("signed under another origin")
	}
	if _, err := NewSigner("PRIVATE+KEY+secret"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a broken key: %v", err)
	}
	for _, bad := range []string{"", "two words", "a+b"} {
		if _, _, err := GenerateKey(bad); err == nil {
			t.Errorf("origin %q", bad)
		}
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	skey, vkey, _ := GenerateKey(testOrigin)
	s, _ := NewSigner(skey)
	signed, _ := Checkpoint{testOrigin, 7, EntryHash(nil)}.Sign(s)
	f.Add(signed)
	f.Fuzz(func(t *testing.T, in string) {
		if c, err := OpenCheckpoint(in, vkey); err == nil && c.Pin() != (statement.Checkpoint{Size: 7, Root: EntryHash(nil)}) {
			t.Fatalf("a checkpoint that was never signed: %v", c)
		}
	})
}
