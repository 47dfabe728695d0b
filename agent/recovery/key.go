package recovery

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Key is the recovery key: an age identity that is made to be on paper alone.
type Key struct {
	identity age.Identity
	kind     byte
	secret   [keyLen]byte
	text     string // age's own, for a whole sheet
	public   string
}

// New makes a key, post-quantum hybrid or classical.
func New(classical bool) (*Key, error) {
	if classical {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return nil, fmt.Errorf("making the recovery key: %w", err)
		}
		return Parse(id.String())
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("making the recovery key: %w", err)
	}
	return Parse(id.String())
}

// Spelling of secret keys: age's own.
const (
	prefixX  = "AGE-SECRET-KEY-1"
	prefixPQ = "AGE-SECRET-KEY-PQ-1"
)

// Parse reads a key as age spells it.
func Parse(text string) (*Key, error) {
	text = strings.ToUpper(strings.TrimSpace(text))
	k := &Key{text: text}
	switch {
	case strings.HasPrefix(text, prefixPQ):
		id, err := age.ParseHybridIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("reading the recovery key: %w", err)
		}
		k.identity, k.public, k.kind = id, id.Recipient().String(), kindPQ
	case strings.HasPrefix(text, prefixX):
		id, err := age.ParseX25519Identity(text)
		if err != nil {
			return nil, fmt.Errorf("reading the recovery key: %w", err)
		}
		k.identity, k.public, k.kind = id, id.Recipient().String(), kindX
	default:
		return nil, fmt.Errorf("reading the recovery key: it begins with %s or %s", prefixX, prefixPQ)
	}
	b, err := secretOf(text)
	if err != nil {
		return nil, err
	}
	copy(k.secret[:], b)
	clear(b)
	return k, nil
}

// Identity opens what is sealed to the key.
func (k *Key) Identity() age.Identity { return k.identity }

// Public is the age recipient.
func (k *Key) Public() string { return k.public }

// Text is age's own spelling of the secret.
func (k *Key) Text() string { return k.text }

// Wipe clears the secret, as far as the language lets it.
func (k *Key) Wipe() { clear(k.secret[:]) }

func keyID(recipient string) [5]byte {
	h := sha256.Sum256([]byte(recipient))
	return [5]byte(h[:5])
}

// Sheet is the whole key on one paper.
func (k *Key) Sheet() *Sheet {
	return &Sheet{kind: k.kind, Needed: 1, Made: 1, of: keyID(k.public), payload: k.secret}
}

// Shares are n papers of which any two open the key.
func (k *Key) Shares(n int) ([]*Sheet, error) {
	if n < 2 || n > MaxShares {
		return nil, fmt.Errorf("%d shares: want 2 to %d", n, MaxShares)
	}
	var out []*Sheet
	for i, y := range split(&k.secret, n) {
		out = append(out, &Sheet{kind: k.kind, Needed: 2, Made: n, Number: i + 1, of: keyID(k.public), payload: y})
	}
	return out, nil
}

// Open gives the key that the sheets are of: one whole one, or two shares. A key whose public half is another than the sheets name is none.
func Open(sheets ...*Sheet) (*Key, error) {
	bad := func(format string, a ...any) (*Key, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrShares}, a...)...)
	}
	if len(sheets) == 0 {
		return bad("none was given")
	}
	first := sheets[0]
	secret := first.payload
	defer clear(secret[:])
	switch {
	case first.Whole() && len(sheets) == 1:
	case first.Whole():
		return bad("a whole one needs no other")
	case len(sheets) != 2:
		return bad("%d shares were given, two open it", len(sheets))
	default:
		second := sheets[1]
		if second.kind != first.kind || second.of != first.of || second.Made != first.Made || second.Needed != first.Needed {
			return bad("they are of two keys")
		}
		if second.Number == first.Number {
			return bad("share %d was given twice", first.Number)
		}
		secret = combine(byte(first.Number), &first.payload, byte(second.Number), &second.payload)
	}
	prefix := prefixX
	if first.kind == kindPQ {
		prefix = prefixPQ
	}
	k, err := Parse(bech32(prefix[:len(prefix)-1], secret[:]))
	if err != nil {
		return nil, errors.Join(ErrShares, err)
	}
	if keyID(k.public) != first.of {
		k.Wipe()
		return bad("what comes out is not the key that they name: shares of two prints of it, perhaps")
	}
	return k, nil
}

// NewChallenge seals a fresh answer to a recipient: whoever names the answer holds the key. It is a small age file.
func NewChallenge(recipient string) (sealed []byte, answer string, err error) {
	r, err := parseRecipient(recipient)
	if err != nil {
		return nil, "", err
	}
	var b [20]byte
	rand.Read(b[:])
	answer = encode(b[:])
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, r)
	if err == nil {
		_, err = io.WriteString(w, challengeLabel+answer+"\n")
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return nil, "", fmt.Errorf("making a challenge: %w", err)
	}
	return buf.Bytes(), answer, nil
}

const challengeLabel = label + "challenge\n"

// MaxChallenge bounds a challenge: a hybrid one has 1.8 KiB.
const MaxChallenge = 8 << 10

// ErrChallenge says that a file is no challenge that this key opens.
var ErrChallenge = errors.New("this key opens no such challenge")

// Answer opens a challenge.
func (k *Key) Answer(sealed []byte) (string, error) {
	if len(sealed) > MaxChallenge {
		return "", fmt.Errorf("%w: it has %d bytes", ErrChallenge, len(sealed))
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identity)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrChallenge, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, MaxChallenge))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrChallenge, err)
	}
	// Only what was made to be shown: a transcript key, say, must not come out here.
	answer, ok := strings.CutPrefix(string(b), challengeLabel)
	if !ok || !strings.HasSuffix(answer, "\n") || len(answer) != 33 {
		return "", fmt.Errorf("%w: it holds something else", ErrChallenge)
	}
	return answer[:32], nil
}

func parseRecipient(s string) (age.Recipient, error) {
	if strings.HasPrefix(s, "age1pq1") {
		return age.ParseHybridRecipient(s)
	}
	return age.ParseX25519Recipient(s)
}
