package api

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// Pins are what a client, a jump or a verifier trusts: the site's keys and addresses and a checkpoint of its ledger. The file
// form is indented JSON.
type Pins struct {
	Site       ledger.Site `json:"site"`
	Checkpoint string      `json:"checkpoint"` // signed note
}

const (
	// MaxPins bounds a pins file and MaxToken a token, in bytes: a site with forty jumps has under 32 KiB.
	MaxPins  = 64 << 10
	MaxToken = 96 << 10

	tokenPrefix = "bg1."
)

// ErrPins and ErrToken are wrapped by the errors of ParsePins and ParseToken.
var (
	ErrPins  = errors.New("malformed pins")
	ErrToken = errors.New("malformed token")
)

// Marshal writes the file form.
func (p Pins) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	return append(b, '\n'), err
}

// ParsePins reads the file form strictly and validates it.
func ParsePins(data []byte) (Pins, error) {
	var p Pins
	if len(data) > MaxPins {
		return p, fmt.Errorf("%w: %d bytes, limit %d", ErrPins, len(data), MaxPins)
	}
	if err := strict(data, &p); err != nil {
		return Pins{}, fmt.Errorf("%w: %w", ErrPins, err)
	}
	if err := p.Validate(); err != nil {
		return Pins{}, err
	}
	return p, nil
}

// Validate checks that the pins pin something: each kind of key, an address, and a checkpoint that the ledger's own key signed.
func (p Pins) Validate() error {
	bad := func(format string, a ...any) error { return fmt.Errorf("%w: "+format, append([]any{ErrPins}, a...)...) }
	s := p.Site
	if s.Origin == "" || s.Epoch < 1 || (s.Profile != "demo" && s.Profile != "production") {
		return bad("origin %q, epoch %d, profile %q", s.Origin, s.Epoch, s.Profile)
	}
	v, err := note.NewVerifier(s.LedgerKey)
	if err != nil {
		return bad("ledger key: %w", err)
	}
	if v.Name() != s.Origin {
		return bad("the ledger key is named %q, the origin %q", v.Name(), s.Origin)
	}
	if _, err := ledger.OpenCheckpoint(p.Checkpoint, s.LedgerKey); err != nil {
		return bad("%w", err)
	}
	for _, ca := range []struct {
		what string
		keys []string
	}{{"client CA", s.ClientCA}, {"session CA", s.SessionCA}, {"host CA", s.HostCA}} {
		if len(ca.keys) == 0 {
			return bad("no %s", ca.what)
		}
		if _, err := Keys(ca.keys); err != nil {
			return bad("%s: %w", ca.what, err)
		}
	}
	if len(s.TLS) == 0 || len(s.Addresses) == 0 {
		return bad("no TLS key or no address")
	}
	for _, t := range s.TLS {
		if h, err := hex.DecodeString(t); err != nil || len(h) != 32 {
			return bad("TLS key %q is no SHA-256 in hex", t)
		}
	}
	for _, a := range s.Addresses {
		if _, err := netip.ParseAddrPort(a); err != nil {
			return bad("address %q: want IP:PORT", a)
		}
	}
	for _, j := range s.Jumps {
		if _, err := name.ParseJump(string(j.Name)); err != nil {
			return bad("%w", err)
		}
		if _, err := Keys([]string{j.Key, j.HostKey}); err != nil {
			return bad("jump %s: %w", j.Name, err)
		}
		for _, a := range j.Addresses {
			if _, err := netip.ParseAddrPort(a); err != nil {
				return bad("jump %s: address %q: want IP:PORT", j.Name, a)
			}
		}
	}
	return nil
}

// Keys parses public keys in authorized_keys form; a certificate is refused.
func Keys(list []string) ([]ssh.PublicKey, error) {
	var out []ssh.PublicKey
	for _, s := range list {
		k, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(s))
		if err != nil {
			return nil, fmt.Errorf("key %.40q: %w", s, err)
		}
		if _, cert := k.(*ssh.Certificate); cert || len(rest) > 0 {
			return nil, fmt.Errorf("key %.40q: want one plain key", s)
		}
		out = append(out, k)
	}
	return out, nil
}

// What a token is for.
const (
	ForPerson = "person"
	ForJump   = "jump"
)

// Token is an invite: pins, and a secret that is good once, until Expires, for one person or one jump.
type Token struct {
	Pins    Pins      `json:"pins"`
	For     string    `json:"for"`
	Name    string    `json:"name"`
	Secret  string    `json:"secret"` // base64url of 32 bytes; the CA keeps its SHA-256 alone
	Expires time.Time `json:"expires"`
}

// String is the line that is handed over. It holds the secret: a log gets Redacted.
func (t Token) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// Redacted names the token without its secret.
func (t Token) Redacted() string {
	return fmt.Sprintf("token for %s %s of %s, until %s", t.For, t.Name, t.Pins.Site.Origin, t.Expires.UTC().Format(time.RFC3339))
}

// TokenArg is the token that a command was given: its argument, or all of stdin for "-". Arguments are seen by everybody on a machine, and
// whoever is first with a token has it.
func TokenArg(arg string, stdin io.Reader) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	b, err := io.ReadAll(io.LimitReader(stdin, 2*MaxToken)) // white space comes off later
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	return string(b), nil
}

// ParseToken reads a token; white space that a mail program put in is forgiven. It does not judge the time.
func ParseToken(s string) (Token, error) {
	var t Token
	s = strings.Join(strings.Fields(s), "")
	body, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok {
		return t, fmt.Errorf("%w: it should begin with %q", ErrToken, tokenPrefix)
	}
	if len(s) > MaxToken {
		return t, fmt.Errorf("%w: %d bytes, limit %d", ErrToken, len(s), MaxToken)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return t, fmt.Errorf("%w: is the end of it missing? %w", ErrToken, err)
	}
	if err := strict(b, &t); err != nil {
		return Token{}, fmt.Errorf("%w: is the end of it missing? %w", ErrToken, err)
	}
	switch t.For {
	case ForPerson:
		_, err = name.ParsePerson(t.Name)
	case ForJump:
		_, err = name.ParseJump(t.Name)
	default:
		err = fmt.Errorf("for %q", t.For)
	}
	if err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if s, err := base64.RawURLEncoding.Strict().DecodeString(t.Secret); err != nil || len(s) != 32 {
		return Token{}, fmt.Errorf("%w: its secret is not 32 bytes", ErrToken)
	}
	if err := t.Pins.Validate(); err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return t, nil
}

// strict reads one JSON value with no unknown field and nothing after it.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF { // More would pass a lone closing bracket
		return errors.New("something follows the JSON")
	}
	return nil
}
