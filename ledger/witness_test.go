package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/internal/name"
)

// cosigners are a log's key, two jumps and a witness outside, and the site that names them.
type cosigners struct {
	log  note.Signer
	by   []*torchwood.CosignatureSigner
	site Site
}

func newCosigners(t testing.TB, lines ...string) *cosigners {
	t.Helper()
	const origin = "breakglass.test/1"
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	c := &cosigners{site: Site{Origin: origin, LedgerKey: vkey}}
	if c.log, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	add := func(n string) ed25519.PrivateKey {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s, err := torchwood.NewCosignatureSigner(n, key)
		if err != nil {
			t.Fatal(err)
		}
		c.by = append(c.by, s)
		return key
	}
	for _, j := range []name.Jump{"jump1", "jump2"} {
		pub, err := ssh.NewPublicKey(add(JumpWitnessName(origin, j)).Public())
		if err != nil {
			t.Fatal(err)
		}
		c.site.Jumps = append(c.site.Jumps, SiteJump{Name: j, Key: string(ssh.MarshalAuthorizedKey(pub))})
	}
	add("witness.test/w")
	for _, l := range lines {
		c.site.Witnesses = append(c.site.Witnesses, strings.ReplaceAll(l, "VKEY", c.by[2].Verifier().String()))
	}
	return c
}

func (c *cosigners) head(t testing.TB, size int64, by ...note.Signer) string {
	t.Helper()
	signed, err := Checkpoint{Origin: c.site.Origin, Size: size}.Sign(c.log)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(verifier(t, c.site.LedgerKey)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := note.Sign(n, by...)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func verifier(t testing.TB, vkey string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWitnessesOfASite(t *testing.T) {
	for _, tc := range []struct {
		lines  []string
		names  string
		quorum int
	}{
		{nil, "", 0},
		{DefaultWitnesses(), "breakglass.test/1/jump/jump1 breakglass.test/1/jump/jump2", 1},
		{[]string{"witness witness.test/w VKEY -"}, "witness.test/w", 0},
		{[]string{"jumps", "witness witness.test/w VKEY https://witness.test", "quorum 2"}, "breakglass.test/1/jump/jump1 breakglass.test/1/jump/jump2 witness.test/w", 2},
	} {
		w, err := ParseWitnesses(newCosigners(t, tc.lines...).site)
		if err != nil {
			t.Errorf("%q: %v", tc.lines, err)
			continue
		}
		var names []string
		for _, o := range w.List {
			names = append(names, o.Name)
		}
		if got := strings.Join(names, " "); got != tc.names || w.Quorum != tc.quorum {
			t.Errorf("%q: %s, quorum %d", tc.lines, got, w.Quorum)
		}
	}
	for _, lines := range [][]string{
		{"jumps", "jumps"}, {"quorum 1", "quorum 2"}, {"quorum"}, {"quorum -1"}, {"quorum 01"}, {"quorum 1000"}, {"jumps  "}, {""}, {"group all 1 w1"}, {"jumps x"},
		{"witness other.test VKEY -"}, {"witness witness.test/w VKEY"}, {"witness witness.test/w VKEY ftp://x"}, {"witness witness.test/w VKEY https://"},
		{"witness witness.test/w VKEY -", "witness witness.test/w VKEY -"}, {"witness witness.test/w x -"},
	} {
		if w, err := ParseWitnesses(newCosigners(t, lines...).site); !errors.Is(err, ErrWitnesses) {
			t.Errorf("%q: %+v, %v", lines, w, err)
		}
	}
}

// What we count as cosigned by the quorum is what C2SP's own reading of our tlog-policy counts.
func TestTheTLogPolicySaysTheSame(t *testing.T) {
	for quorum := range 4 {
		c := newCosigners(t, "jumps", "witness witness.test/w VKEY -", fmt.Sprintf("quorum %d", quorum))
		w, err := ParseWitnesses(c.site)
		if err != nil {
			t.Fatal(err)
		}
		text, err := w.TLogPolicy(c.site.LedgerKey)
		if err != nil {
			t.Fatal(err)
		}
		p, err := torchwood.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for set := range 8 {
			var by []note.Signer
			for i, s := range c.by {
				if set>>i&1 == 1 {
					by = append(by, s)
				}
			}
			signed := c.head(t, 7, by...)
			head, ours, err := w.Cosigned(signed, c.site.LedgerKey)
			if err != nil || head.Size != 7 || len(ours) != len(by) {
				t.Fatalf("%d, %v, %v", head.Size, ours, err)
			}
			n, err := note.Open([]byte(signed), p)
			if err != nil {
				t.Fatal(err)
			}
			if theirs := p.Check(c.site.Origin, n.Sigs) == nil; theirs != (len(ours) >= quorum) {
				t.Errorf("quorum %d, cosigned by %v: the policy says %v", quorum, ours, theirs)
			}
		}
	}
	few := newCosigners(t, "witness witness.test/w VKEY -", "quorum 2")
	w, err := ParseWitnesses(few.site)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.TLogPolicy(few.site.LedgerKey); !errors.Is(err, ErrWitnesses) {
		t.Errorf("a quorum of 2 of one witness: %v", err)
	}
}

func TestCosignaturesOfOthersAndForgedOnes(t *testing.T) {
	c, o := newCosigners(t, "jumps", "quorum 1"), newCosigners(t, "jumps")
	w, err := ParseWitnesses(c.site)
	if err != nil {
		t.Fatal(err)
	}
	// One that the site doesn't name counts for nothing, and is left out of what is kept.
	signed := c.head(t, 7, c.by[0], c.by[2])
	if _, by, err := w.Cosigned(signed, c.site.LedgerKey); err != nil || len(by) != 1 || by[0].Name != c.by[0].Name() {
		t.Errorf("%v, %v", by, err)
	}
	kept, err := w.Strip(signed, c.site.LedgerKey)
	if err != nil || kept != c.head(t, 7, c.by[0]) && strings.Contains(kept, "witness.test") {
		t.Errorf("%v\n%s", err, kept)
	}
	// Of the same name and another key: another's.
	if _, by, err := w.Cosigned(c.head(t, 7, o.by[0]), c.site.LedgerKey); err != nil || len(by) != 0 {
		t.Errorf("%v, %v", by, err)
	}
	// Ours by name and key, over another head.
	head, other := c.head(t, 7), c.head(t, 8, c.by[0])
	stolen := strings.SplitAfter(other, "\n")
	if _, by, err := w.Cosigned(head+stolen[len(stolen)-2], c.site.LedgerKey); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("a cosignature of another head: %v, %v", by, err)
	}
	if _, _, err := w.Cosigned(head, o.site.LedgerKey); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("a head of another ledger: %v", err)
	}
}

func TestMergeOfCosignatures(t *testing.T) {
	c := newCosigners(t, "jumps", "quorum 2")
	w, err := ParseWitnesses(c.site)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := Merge(c.head(t, 7, c.by[0]), c.head(t, 7, c.by[1]), c.head(t, 7, c.by[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, by, err := w.Cosigned(merged, c.site.LedgerKey); err != nil || len(by) != 2 || strings.Count(merged, "\n— ") != 3 {
		t.Errorf("%v, %v\n%s", by, err, merged)
	}
	for _, bad := range []string{c.head(t, 8), "", "x", "x\n\n— a\n", c.head(t, 7) + "— a !\n", strings.TrimSuffix(c.head(t, 7), "\n")} {
		if _, err := Merge(c.head(t, 7), bad); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Whatever is merged and stripped is one head of this ledger, and no cosignature comes from nowhere.
func FuzzCosigned(f *testing.F) {
	c := newCosigners(f, "jumps", "witness witness.test/w VKEY -", "quorum 2")
	w, err := ParseWitnesses(c.site)
	if err != nil {
		f.Fatal(err)
	}
	good := c.head(f, 7, c.by[0])
	f.Add(good)
	f.Add(c.head(f, 7, c.by[1], c.by[2]))
	f.Add(c.head(f, 8, c.by[1]))
	f.Add(good + "— x AAAA\n")
	f.Fuzz(func(t *testing.T, s string) {
		merged, err := Merge(good, s)
		if err != nil {
			return
		}
		kept, err := w.Strip(merged, c.site.LedgerKey)
		if err != nil {
			return
		}
		head, by, err := w.Cosigned(kept, c.site.LedgerKey)
		if err != nil || head.Size != 7 || len(by) == 0 || by[0].Name != c.by[0].Name() {
			t.Fatalf("%+v, %v, %v\n%s", head, by, err, kept)
		}
	})
}
