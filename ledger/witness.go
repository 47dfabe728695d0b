package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/internal/name"
)

// Witnesses make a ledger tamper-evident where its own key can't: each cosigns (C2SP tlog-cosignature, cosignature/v1) only heads that continue the last one it
// cosigned. With a quorum of them under a head, whoever has the ledger's key and rewrites history needs their keys too.
//
// A site's list (Site.Witnesses) has a line each, in any order:
//
//	jumps                        every jump of the site is a witness
//	witness NAME VKEY URL        somebody outside; URL is where C2SP tlog-witness is spoken, "-" if the cosignatures come otherwise
//	quorum N                     so many have to cosign
//
// Without a quorum nothing is asked of the witnesses.

// ErrWitnesses is wrapped by the errors of ParseWitnesses.
var ErrWitnesses = errors.New("malformed list of witnesses")

// MaxWitnesses bounds a list: a checkpoint has to hold a line of each.
const MaxWitnesses = 64

// JumpsLine is the line that makes every jump a witness; DefaultWitnesses is a new site's list.
const JumpsLine = "jumps"

// DefaultWitnesses asks for one jump at least: a site may have only one.
func DefaultWitnesses() []string { return []string{JumpsLine, "quorum 1"} }

// Witness is one of them.
type Witness struct {
	Name string
	URL  string    // of one outside, "" if none is said
	Jump name.Jump // of a jump
	v    *torchwood.CosignatureVerifier
}

// Witnesses are those of a site, and how many of them have to cosign.
type Witnesses struct {
	Quorum int
	List   []Witness
}

// Cosignature says who cosigned a head, and when by the witness's clock.
type Cosignature struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

// JumpWitnessName is the name under which a jump cosigns the ledger of that origin.
func JumpWitnessName(origin string, j name.Jump) string { return origin + "/jump/" + string(j) }

// JumpWitness is a jump's verifier: its pinned key of facts. One key serves both, since no message can be taken for the other's: what it signs of facts and calls begins
// with "SSHSIG" (PROTOCOL.sshsig), a cosignature's with "cosignature/v1".
func JumpWitness(origin string, j SiteJump) (Witness, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(j.Key))
	if err != nil {
		return Witness{}, fmt.Errorf("%w: jump %s: %w", ErrWitnesses, j.Name, err)
	}
	c, ok := k.(ssh.CryptoPublicKey)
	if !ok {
		return Witness{}, fmt.Errorf("%w: jump %s has no plain key", ErrWitnesses, j.Name)
	}
	pub, ok := c.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return Witness{}, fmt.Errorf("%w: jump %s has no ed25519 key", ErrWitnesses, j.Name)
	}
	n := JumpWitnessName(origin, j.Name)
	v, err := torchwood.NewCosignatureVerifier(cosignatureVKey(n, pub))
	if err != nil {
		return Witness{}, fmt.Errorf("%w: jump %s: %w", ErrWitnesses, j.Name, err)
	}
	return Witness{Name: n, Jump: j.Name, v: v}, nil
}

// cosignatureVKey is a verifier key of C2SP signed-note, of type cosignature/v1 (4).
func cosignatureVKey(n string, pub ed25519.PublicKey) string {
	typed := append([]byte{4}, pub...)
	h := sha256.Sum256(append([]byte(n+"\n"), typed...))
	return fmt.Sprintf("%s+%08x+%s", n, binary.BigEndian.Uint32(h[:]), base64.StdEncoding.EncodeToString(typed))
}

// ParseWitnesses reads a site's list. Names are unique.
func ParseWitnesses(s Site) (Witnesses, error) {
	var w Witnesses
	bad := func(line, format string, a ...any) (Witnesses, error) {
		return Witnesses{}, fmt.Errorf("%w: %.200q: %s", ErrWitnesses, line, fmt.Sprintf(format, a...))
	}
	seen := map[string]bool{}
	for _, line := range s.Witnesses {
		f := strings.Fields(line)
		if strings.Join(f, " ") != line || len(f) == 0 {
			return bad(line, "want words with one space between")
		}
		if f[0] != "witness" && seen[f[0]] {
			return bad(line, "said twice")
		}
		seen[f[0]] = true
		switch {
		case f[0] == JumpsLine && len(f) == 1:
			for _, j := range s.Jumps {
				v, err := JumpWitness(s.Origin, j)
				if err != nil {
					return Witnesses{}, err
				}
				w.List = append(w.List, v)
			}
		case f[0] == "witness" && len(f) == 4:
			v, err := torchwood.NewCosignatureVerifier(f[2])
			if err != nil {
				return bad(line, "%v", err)
			}
			if v.Name() != f[1] {
				return bad(line, "the key is named %q", v.Name())
			}
			o := Witness{Name: v.Name(), v: v}
			if f[3] != "-" {
				u, err := url.Parse(f[3])
				if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
					return bad(line, "want a URL, or - for none")
				}
				o.URL = f[3]
			}
			w.List = append(w.List, o)
		case f[0] == "quorum" && len(f) == 2:
			n, err := strconv.Atoi(f[1])
			if err != nil || n < 0 || n > MaxWitnesses || strconv.Itoa(n) != f[1] {
				return bad(line, "want a number")
			}
			w.Quorum = n
		default:
			return bad(line, "want `jumps`, `witness NAME VKEY URL` or `quorum N`")
		}
	}
	if len(w.List) > MaxWitnesses {
		return Witnesses{}, fmt.Errorf("%w: %d, limit %d", ErrWitnesses, len(w.List), MaxWitnesses)
	}
	for i, a := range w.List {
		if slices.ContainsFunc(w.List[:i], func(b Witness) bool { return a.Name == b.Name || a.v.String() == b.v.String() }) {
			return Witnesses{}, fmt.Errorf("%w: %q twice", ErrWitnesses, a.Name)
		}
	}
	return w, nil
}

// Cosigned gives the witnesses whose good cosignatures stand under the head of a ledger, in the list's order. Those of others aren't judged.
func (w Witnesses) Cosigned(signed, ledgerKey string) (Checkpoint, []Cosignature, error) {
	head, err := OpenCheckpoint(signed, ledgerKey)
	if err != nil {
		return head, nil, err
	}
	if len(w.List) == 0 {
		return head, nil, nil
	}
	vs := make([]note.Verifier, len(w.List))
	for i, o := range w.List {
		vs[i] = o.v
	}
	n, err := note.Open([]byte(signed), note.VerifierList(vs...))
	var none *note.UnverifiedNoteError
	if errors.As(err, &none) {
		return head, nil, nil
	}
	if err != nil { // a cosignature that is said to be theirs and isn't
		return head, nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	var out []Cosignature
	for _, o := range w.List {
		for _, s := range n.Sigs {
			if s.Name != o.v.Name() || s.Hash != o.v.KeyHash() {
				continue
			}
			t, err := torchwood.CosignatureTimestamp(s)
			if err != nil {
				return head, nil, fmt.Errorf("%w: %s: %w", ErrCheckpoint, o.Name, err)
			}
			out = append(out, Cosignature{o.Name, time.Unix(t, 0).UTC()})
			break
		}
	}
	return head, out, nil
}

// Strip is a head with the signatures of its ledger and of these witnesses alone: lines of others could be anything.
func (w Witnesses) Strip(signed, ledgerKey string) (string, error) {
	own, err := note.NewVerifier(ledgerKey)
	if err != nil {
		return "", fmt.Errorf("ledger key: %w", err)
	}
	vs := []note.Verifier{own}
	for _, o := range w.List {
		vs = append(vs, o.v)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(vs...))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	var b strings.Builder
	b.WriteString(n.Text + "\n")
	for _, s := range n.Sigs {
		fmt.Fprintf(&b, "— %s %s\n", s.Name, s.Base64)
	}
	return b.String(), nil
}

// TLogPolicy writes the list as a C2SP tlog-policy, for stock tools. A quorum that these witnesses can't reach has none: ErrWitnesses.
func (w Witnesses) TLogPolicy(ledgerKey string) (string, error) {
	if w.Quorum > len(w.List) {
		return "", fmt.Errorf("%w: a quorum of %d of %d", ErrWitnesses, w.Quorum, len(w.List))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", ledgerKey)
	var names []string
	for i, o := range w.List {
		names = append(names, fmt.Sprintf("w%d", i+1))
		fmt.Fprintf(&b, "witness %s %s\n", names[i], o.v.String())
	}
	if w.Quorum == 0 {
		b.WriteString("quorum none\n")
	} else {
		fmt.Fprintf(&b, "group all %d %s\nquorum all\n", w.Quorum, strings.Join(names, " "))
	}
	return b.String(), nil
}

// Merge puts the signature lines of several notes under one text. All must be of the same text; of two lines of one key the first stays.
func Merge(notes ...string) (string, error) {
	var text string
	var lines []string
	keys := map[string]bool{}
	for _, n := range notes {
		i := strings.Index(n, "\n\n")
		if i < 0 || !strings.HasSuffix(n, "\n") {
			return "", fmt.Errorf("%w: not a signed note", ErrCheckpoint)
		}
		if text == "" {
			text = n[:i+1]
		} else if text != n[:i+1] {
			return "", fmt.Errorf("%w: signatures of another head", ErrCheckpoint)
		}
		for _, l := range strings.SplitAfter(n[i+2:], "\n") {
			if l == "" {
				continue
			}
			f := strings.Fields(l) // — NAME BASE64
			if len(f) != 3 {
				return "", fmt.Errorf("%w: signature line %.80q", ErrCheckpoint, l)
			}
			b, err := base64.StdEncoding.DecodeString(f[2])
			if err != nil || len(b) < 4 {
				return "", fmt.Errorf("%w: signature line %.80q", ErrCheckpoint, l)
			}
			if k := f[1] + string(b[:4]); !keys[k] {
				keys[k] = true
				lines = append(lines, l)
			}
		}
	}
	return text + "\n" + strings.Join(lines, ""), nil
}
