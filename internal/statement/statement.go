// Package statement defines the bytes that keys sign: plain UTF-8 text that a person can read.
//
// A statement is
//
//	breakglass KIND v1 LF
//	NAME ":" [ SP VALUE ] LF        one line for each field of the kind, in the kind's order, none left out
//
// and nothing else. A value is UTF-8 without control, format (bidirectional overrides, zero-width),
// line- or paragraph-separator characters, without leading or trailing space, at most MaxValue bytes; an empty value is written
// as the name and a colon alone. Parse accepts exactly the bytes that Marshal writes: there is one
// spelling of every statement, so what was signed, shown and stored can't differ. Unknown, missing, repeated or
// reordered lines are refused.
//
// Values: times are UTC to the second (2006-01-02T15:04:05Z); numbers decimal; yes and no; hashes lower-case hex;
// nonces base64url without padding; lists are separated by ", " and their items hold no comma.
//
// A statement is signed as an SSHSIG (OpenSSH PROTOCOL.sshsig) with sha512 under the namespace of its kind, so
// a signature under one kind can never stand for another, and `ssh-keygen -Y verify` checks each.
package statement

import (
	"bytes"
	"crypto/rand"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxSize bounds a statement in bytes, so that a stranger's can't fill memory.
	MaxSize = 16 << 10
	// MaxValue bounds one value: an age recipient with a post-quantum half has 1,959 bytes, a machine's fact a few thousand.
	MaxValue = 8 << 10
)

// ErrMalformed is wrapped by every error of Parse and Marshal.
var ErrMalformed = errors.New("malformed statement")

// A Statement is a pointer to one of the struct types of this package (kinds.go).
type Statement interface {
	// Kind is the word in the first line.
	Kind() Kind
}

// Kind names a kind of statement.
type Kind string

// Namespace is the SSHSIG namespace under which statements of this kind are signed.
func (k Kind) Namespace() string { return string(k) + "@breakglass" }

// Marshal writes s as the bytes to be signed.
func Marshal(s Statement) ([]byte, error) {
	v := reflect.ValueOf(s).Elem()
	var b bytes.Buffer
	fmt.Fprintf(&b, "breakglass %s v1\n", s.Kind())
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("st")
		val, err := encode(v.Field(i))
		if err == nil {
			err = checkValue(val)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: field %q: %w", ErrMalformed, name, err)
		}
		b.WriteString(name)
		b.WriteByte(':')
		if val != "" {
			b.WriteByte(' ')
			b.WriteString(val)
		}
		b.WriteByte('\n')
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrMalformed, b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

// Parse reads data into s, which says what kind is wanted. It accepts only what Marshal would write.
func Parse(data []byte, s Statement) error {
	if len(data) > MaxSize {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrMalformed, len(data), MaxSize)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	head, rest, ok := strings.Cut(string(data), "\n")
	if want := fmt.Sprintf("breakglass %s v1", s.Kind()); !ok || head != want {
		return fmt.Errorf("%w: first line %q, want %q", ErrMalformed, clip(head), want)
	}
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("st")
		var line string
		line, rest, ok = strings.Cut(rest, "\n")
		if !ok {
			return fmt.Errorf("%w: line %q is missing", ErrMalformed, name)
		}
		val, ok := strings.CutPrefix(line, name+":")
		if !ok {
			return fmt.Errorf("%w: line %q, want %q", ErrMalformed, clip(line), name+":")
		}
		val = strings.TrimPrefix(val, " ")
		if err := checkValue(val); err != nil {
			return fmt.Errorf("%w: field %q: %w", ErrMalformed, name, err)
		}
		if err := decode(v.Field(i), val); err != nil {
			return fmt.Errorf("%w: field %q: %w", ErrMalformed, name, err)
		}
	}
	if rest != "" {
		return fmt.Errorf("%w: unknown line %q", ErrMalformed, clip(rest))
	}
	// One spelling: whatever decodes alike but is written differently is refused here, once, for all types.
	again, err := Marshal(s)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not in canonical form", ErrMalformed)
	}
	return nil
}

// KindOf reads the kind from a statement's first line without judging the rest.
func KindOf(data []byte) (Kind, error) {
	head, _, _ := strings.Cut(string(data[:min(len(data), 128)]), "\n")
	k, ok := strings.CutPrefix(head, "breakglass ")
	k, ok2 := strings.CutSuffix(k, " v1")
	if !ok || !ok2 {
		return "", fmt.Errorf("%w: first line %q", ErrMalformed, clip(head))
	}
	return Kind(k), nil
}

// CheckText reports what in s may not stand in a statement: it is how a client judges a reason before it asks.
func CheckText(s string) error { return checkValue(s) }

func checkValue(s string) error {
	if len(s) > MaxValue {
		return fmt.Errorf("%d bytes, limit %d", len(s), MaxValue)
	}
	if strings.TrimSpace(s) != s {
		return errors.New("leading or trailing space")
	}
	for _, r := range s {
		if ' ' <= r && r <= '~' { // nearly every character of nearly every statement
			continue
		}
		// Cc would break lines or drive a terminal, Cf reorders or hides text from the person who signs it.
		if r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) {
			return fmt.Errorf("character %U is not allowed", r)
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 60 {
		s = s[:60]
	}
	return s
}

const timeLayout = "2006-01-02T15:04:05Z"

// Nonce is 32 random bytes that make a statement single-use.
type Nonce [32]byte

// NewNonce draws a nonce.
func NewNonce() (n Nonce) {
	rand.Read(n[:])
	return n
}

func (n Nonce) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, n[:]), nil
}

func (n *Nonce) UnmarshalText(b []byte) error {
	d, err := base64.RawURLEncoding.Strict().DecodeString(string(b))
	if err != nil || len(d) != len(n) {
		return errors.New("want 32 bytes of base64url")
	}
	copy(n[:], d)
	return nil
}

// Hash is a SHA-256, in hex.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

func (h Hash) MarshalText() ([]byte, error) {
	if h == (Hash{}) {
		return nil, nil
	}
	return hex.AppendEncode(nil, h[:]), nil
}

func (h *Hash) UnmarshalText(b []byte) error {
	*h = Hash{}
	if len(b) == 0 {
		return nil
	}
	d, err := hex.DecodeString(string(b))
	if err != nil || len(d) != len(h) {
		return errors.New("want a SHA-256 in hex")
	}
	copy(h[:], d)
	return nil
}

// Checkpoint is a ledger's size and root hash as "SIZE HEX". Whoever signs a statement that names one
// pins all history before it.
type Checkpoint struct {
	Size int64 `json:"size"`
	Root Hash  `json:"root"`
}

func (c Checkpoint) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d %s", c.Size, hex.EncodeToString(c.Root[:])), nil
}

func (c *Checkpoint) UnmarshalText(b []byte) error {
	size, root, ok := strings.Cut(string(b), " ")
	n, err := strconv.ParseInt(size, 10, 64)
	d, err2 := hex.DecodeString(root)
	if !ok || err != nil || err2 != nil || n < 0 || len(d) != len(c.Root) {
		return errors.New("want a size and a root hash")
	}
	c.Size = n
	copy(c.Root[:], d)
	return nil
}

func encode(v reflect.Value) (string, error) {
	switch x := v.Interface().(type) {
	case time.Time:
		if x.IsZero() {
			return "", nil
		}
		return x.UTC().Format(timeLayout), nil
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		return string(b), err
	case []string:
		for _, s := range x {
			if s == "" || strings.Contains(s, ",") || strings.TrimSpace(s) != s {
				return "", fmt.Errorf("list item %q", clip(s))
			}
		}
		return strings.Join(x, ", "), nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), nil
	case reflect.Bool:
		if v.Bool() {
			return "yes", nil
		}
		return "no", nil
	}
	panic("statement: field type " + v.Type().String()) // a fault of kinds.go, found by its first test
}

func decode(v reflect.Value, s string) error {
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		*p = time.Time{}
		if s == "" {
			return nil
		}
		t, err := time.Parse(timeLayout, s)
		*p = t
		return err
	case encoding.TextUnmarshaler:
		return p.UnmarshalText([]byte(s))
	case *[]string:
		*p = nil
		if s != "" {
			*p = strings.Split(s, ", ")
		}
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return errors.New("want a number")
		}
		v.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return errors.New("want a number")
		}
		v.SetUint(n)
	case reflect.Bool:
		if s != "yes" && s != "no" {
			return errors.New("want yes or no")
		}
		v.SetBool(s == "yes")
	default:
		panic("statement: field type " + v.Type().String())
	}
	return nil
}
