// Package oncall reads on-call lists: files in which a site, or a program of its, writes down who is on call.
//
// # Promises
//
// To the policy: a file is taken whole or not at all. One line that is not understood, and nobody is on call by it: half of a
// list could be the wrong half. Whoever is not named is not on call, and at an unknown time nobody is known to be.
//
// # The file
//
// UTF-8 text, a line a person, alone or with a span of time as RFC 3339 has it; the end is not part of it. Of a person with several lines each
// counts. Blank lines, and what follows a '#', are nothing.
//
//	# platform team
//	alice
//	bob 2026-11-24T08:00:00Z 2026-11-25T08:00:00Z
//	bob 2026-12-01T09:00:00+01:00 2026-12-02T09:00:00+01:00   # in winter time
//
// How old a file is, is not in it: that is the time at which it was last written.
package oncall

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"breakglass/internal/name"
	"breakglass/policy"
)

// Limits of a list. MaxBytes is a year of hourly turns.
const (
	MaxBytes = 1 << 20
	maxLine  = 512 // a name and two times take below 150
)

// ErrSyntax is what the errors of Parse wrap.
var ErrSyntax = errors.New("on-call list")

// List is a parsed file. Any number of goroutines may use it.
type List struct {
	turns map[name.Person][]turn
}

// turn is a span of time in which somebody is on call; zero times are always.
type turn struct{ from, until time.Time }

// Parse reads a file. An empty one is good: nobody is on call.
func Parse(b []byte) (*List, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrSyntax, MaxBytes)
	}
	l := &List{turns: map[name.Person][]turn{}}
	n := 0
	for line := range strings.SplitSeq(string(b), "\n") {
		n++
		if err := l.add(strings.TrimSuffix(line, "\r")); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrSyntax, n, err)
		}
	}
	return l, nil
}

func (l *List) add(line string) error {
	if len(line) > maxLine {
		return fmt.Errorf("longer than %d bytes", maxLine)
	}
	if !utf8.ValidString(line) {
		return errors.New("not UTF-8")
	}
	line, _, _ = strings.Cut(line, "#")
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) == 0 {
		return nil
	}
	p, err := name.ParsePerson(fields[0])
	if err != nil {
		return err
	}
	var t turn
	switch len(fields) {
	case 1:
	case 3:
		if t.from, err = time.Parse(time.RFC3339, fields[1]); err == nil {
			t.until, err = time.Parse(time.RFC3339, fields[2])
		}
		if err != nil {
			return fmt.Errorf("%q: want times like 2026-11-24T08:00:00Z", fields[1]+" "+fields[2])
		}
		if !t.from.Before(t.until) {
			return fmt.Errorf("%s is not before %s", fields[1], fields[2])
		}
		if t.from.IsZero() { // is taken for "always" otherwise
			return fmt.Errorf("%s: no such turn", fields[1])
		}
	default:
		return fmt.Errorf("%d words: want a person, or a person and two times", len(fields))
	}
	l.turns[p] = append(l.turns[p], t)
	return nil
}

// On tells whether a person is on call at a time; unknown at an unknown time.
func (l *List) On(p name.Person, at time.Time) policy.Tri {
	if at.IsZero() {
		return policy.Unknown
	}
	for _, t := range l.turns[p] {
		if t.from.IsZero() || !at.Before(t.from) && at.Before(t.until) {
			return policy.Yes
		}
	}
	return policy.No
}

// People tells how many have a turn at a time.
func (l *List) People(at time.Time) (n int) {
	for p := range l.turns {
		if l.On(p, at) == policy.Yes {
			n++
		}
	}
	return n
}
