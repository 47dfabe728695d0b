// Package name holds the identifiers of breakglass as types, so that a login can't be passed where
// a host is meant, and so that no unchecked text travels under a checked one's name.
//
// Every value of these types that came out of a Parse function is safe in a certificate principal, a
// file name, a URL path segment, a shell word and a log line: it has no comma, white space, slash,
// wildcard, control character or upper case letter.
package name

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxLen bounds every name in bytes; a login longer than 32 is refused by useradd, a host label
// longer than 63 by DNS.
const MaxLen = 64

// ErrInvalid is what every Parse function's error wraps.
var ErrInvalid = errors.New("invalid name")

type (
	// Person is a named human.
	Person string
	// Host is a target machine's name in the policy.
	Host string
	// Login is the Unix account on a host.
	Login string
	// Group is a set of people or of hosts.
	Group string
	// Jump is a jump host's name.
	Jump string
	// Via is a machine through which some hosts are reached, by the name that the policy gives it.
	Via string
	// Network is a named list of CIDR prefixes.
	Network string
	// Rule is a policy rule's name.
	Rule string
	// Window is a named span of time.
	Window string
	// Roster is a named on-call list.
	Roster string
	// Failure is something that may be down, by the name that the policy gives it.
	Failure string
	// Key is what a person calls one of their hardware keys.
	Key string
)

// check accepts [a-z_0-9][a-z0-9._-]* up to MaxLen bytes.
func check(kind, s string) error {
	if s == "" {
		return fmt.Errorf("%w: %s is empty", ErrInvalid, kind)
	}
	if len(s) > MaxLen {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, kind, MaxLen)
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return fmt.Errorf("%w: %s %q: only a-z, 0-9, '_' and, after the first, '.' and '-'", ErrInvalid, kind, s)
		}
	}
	return nil
}

// The Parse functions accept exactly [a-z_0-9][a-z0-9._-]*, at most MaxLen bytes.

func ParsePerson(s string) (Person, error)   { return Person(s), check("person", s) }
func ParseHost(s string) (Host, error)       { return Host(s), check("host", s) }
func ParseLogin(s string) (Login, error)     { return Login(s), check("login", s) }
func ParseGroup(s string) (Group, error)     { return Group(s), check("group", s) }
func ParseJump(s string) (Jump, error)       { return Jump(s), check("jump", s) }
func ParseVia(s string) (Via, error)         { return Via(s), check("via", s) }
func ParseNetwork(s string) (Network, error) { return Network(s), check("network", s) }
func ParseRule(s string) (Rule, error)       { return Rule(s), check("rule", s) }
func ParseWindow(s string) (Window, error)   { return Window(s), check("window", s) }
func ParseRoster(s string) (Roster, error)   { return Roster(s), check("on-call list", s) }
func ParseFailure(s string) (Failure, error) { return Failure(s), check("failure", s) }
func ParseKey(s string) (Key, error)         { return Key(s), check("key", s) }

// alphabet has no look-alikes (0/o, 1/l/i): an id is read aloud and typed at 3 a.m.
const alphabet = "23456789abcdefghjkmnpqrstuvwxyz"

// RequestID names a request and, once it is allowed, its grant: "k7f-2mq". Its 31^6 (8.9e8) values are no
// secret and guard nothing; the issuer makes sure that each is used once.
type RequestID string

// NewRequestID draws an id. The caller checks that it is unused.
func NewRequestID() RequestID {
	var b [6]byte
	for i := range b {
		b[i] = letter()
	}
	return RequestID(string(b[:3]) + "-" + string(b[3:]))
}

// letter draws one letter of the alphabet without bias.
func letter() byte {
	var b [1]byte
	for {
		rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
		if int(b[0]) < 256/len(alphabet)*len(alphabet) {
			return alphabet[int(b[0])%len(alphabet)]
		}
	}
}

// ParseRequestID accepts a whole id, in either case, with or without its dash.
func ParseRequestID(s string) (RequestID, error) {
	t := strings.ReplaceAll(strings.ToLower(s), "-", "")
	if len(t) != 6 || strings.Trim(t, alphabet) != "" {
		return "", fmt.Errorf("%w: request id %q: want something like k7f-2mq", ErrInvalid, s)
	}
	return RequestID(t[:3] + "-" + t[3:]), nil
}

// SessionID names the n-th connection under a grant: "k7f-2mq/1".
type SessionID string

// Session gives the id of the n-th session (from 1) of a request.
func (r RequestID) Session(n int) SessionID { return SessionID(string(r) + "/" + strconv.Itoa(n)) }

// ParseSessionID accepts "k7f-2mq/1", and "k7f-2mq" for its first session.
func ParseSessionID(s string) (SessionID, error) {
	head, tail, ok := strings.Cut(s, "/")
	r, err := ParseRequestID(head)
	if err != nil {
		return "", fmt.Errorf("%w: session id %q: want something like k7f-2mq/1", ErrInvalid, s)
	}
	if !ok {
		return r.Session(1), nil
	}
	n, err := strconv.Atoi(tail)
	if err != nil || n < 1 || n > 1_000_000 || strconv.Itoa(n) != tail {
		return "", fmt.Errorf("%w: session id %q: want something like k7f-2mq/1", ErrInvalid, s)
	}
	return r.Session(n), nil
}

// Request is the grant that a session ran under.
func (s SessionID) Request() RequestID {
	r, _, _ := strings.Cut(string(s), "/")
	return RequestID(r)
}

// N is the session's number under its grant, from 1; 0 if s did not come from ParseSessionID or Session.
func (s SessionID) N() int {
	_, tail, _ := strings.Cut(string(s), "/")
	n, _ := strconv.Atoi(tail)
	return n
}

// File is the id as one path segment: "k7f-2mq.1".
func (s SessionID) File() string { return strings.ReplaceAll(string(s), "/", ".") }

// SplitTarget splits "login@host" or "host"; login is "" where none was given.
func SplitTarget(s string) (Login, Host, error) {
	l, h, ok := strings.Cut(s, "@")
	if !ok {
		host, err := ParseHost(s)
		return "", host, err
	}
	login, err := ParseLogin(l)
	if err != nil {
		return "", "", err
	}
	host, err := ParseHost(h)
	return login, host, err
}
