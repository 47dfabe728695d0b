package recovery

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

const (
	label = "breakglass recovery v1\n"

	keyLen   = 32
	sheetLen = 50
	lineLen  = 10
	// Lines is how many a sheet has.
	Lines = sheetLen / lineLen
	// MaxShares keeps a share's number one digit on paper; who has more people than that has a vault.
	MaxShares = 9

	version   = 1
	kindX     = 1
	kindPQ    = 2
	letters   = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford's base32
	lineWidth = lineLen*8/5 + checkWidth
	// checkWidth letters check a line: a wrong one passes once in a million.
	checkWidth = 4
)

var (
	// ErrLine says that a line is not as it was printed.
	ErrLine = errors.New("this line is not as it was printed: compare it letter by letter")
	// ErrSheet says that lines which are right each don't make a sheet.
	ErrSheet = errors.New("these lines are not one sheet")
	// ErrShares says that sheets don't belong together, or are too few.
	ErrShares = errors.New("these sheets don't open a key")
)

// Sheet is what stands on one paper.
type Sheet struct {
	kind    byte
	Needed  int // how many open the key: 1 or 2
	Made    int
	Number  int // which of them; 0 of a whole one
	of      [5]byte
	payload [keyLen]byte
}

// Wipe clears what is secret.
func (s *Sheet) Wipe() { clear(s.payload[:]) }

// Whole says that this sheet alone opens the key.
func (s *Sheet) Whole() bool { return s.Needed == 1 }

func (s *Sheet) bytes() [sheetLen]byte {
	var b [sheetLen]byte
	b[0], b[1], b[2], b[3], b[4] = version, s.kind, byte(s.Needed), byte(s.Made), byte(s.Number)
	copy(b[5:], s.of[:])
	copy(b[10:], s.payload[:])
	check := sheetCheck(b[:42])
	copy(b[42:], check[:])
	return b
}

func sheetCheck(b []byte) [8]byte {
	h := sha256.Sum256(append([]byte(label+"sheet\n"), b...))
	return [8]byte(h[:8])
}

// Grid is the sheet's lines as they are printed.
func (s *Sheet) Grid() []string {
	b := s.bytes()
	defer clear(b[:])
	var out []string
	for i := range Lines {
		out = append(out, gridLine(i+1, b[i*lineLen:][:lineLen]))
	}
	return out
}

func gridLine(n int, b []byte) string {
	t := encode(b) + lineCheck(n, b)
	var groups []string
	for i := 0; i < len(t); i += 4 {
		groups = append(groups, t[i:i+4])
	}
	return fmt.Sprintf("%d  %s  %s", n, strings.Join(groups[:len(groups)-1], " "), groups[len(groups)-1])
}

func lineCheck(n int, b []byte) string {
	h := sha256.Sum256(append(append([]byte(label+"line\n"), byte(n)), b...))
	return encode(h[:5])[:checkWidth]
}

// encode writes whole multiples of five bytes.
func encode(b []byte) string {
	var out strings.Builder
	var v uint64
	for i, c := range b {
		v = v<<8 | uint64(c)
		if i%5 == 4 {
			for shift := 35; shift >= 0; shift -= 5 {
				out.WriteByte(letters[v>>shift&31])
			}
			v = 0
		}
	}
	return out.String()
}

// ParseLine reads line n as somebody typed it, with or without its number, and gives its bytes.
func ParseLine(n int, typed string) ([]byte, error) {
	var t []byte
	for _, c := range strings.ToUpper(typed) {
		switch c {
		case ' ', '-', '\t':
			continue
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if c > 'Z' || strings.IndexByte(letters, byte(c)) < 0 {
			return nil, fmt.Errorf("line %d: %w: %q is no letter of it", n, ErrLine, c)
		}
		t = append(t, byte(c))
	}
	if len(t) == lineWidth+1 && t[0] == byte('0'+n) {
		t = t[1:]
	}
	if len(t) != lineWidth {
		return nil, fmt.Errorf("line %d: %w: it has %d letters, want %d", n, ErrLine, len(t), lineWidth)
	}
	var b []byte
	for i := 0; i < lineWidth-checkWidth; i += 8 {
		var v uint64
		for _, c := range t[i : i+8] {
			v = v<<5 | uint64(strings.IndexByte(letters, c))
		}
		b = append(b, byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	if lineCheck(n, b) != string(t[lineWidth-checkWidth:]) {
		return nil, fmt.Errorf("line %d: %w", n, ErrLine)
	}
	return b, nil
}

// ParseSheet reads the five lines of a sheet.
func ParseSheet(lines []string) (*Sheet, error) {
	if len(lines) != Lines {
		return nil, fmt.Errorf("%w: %d lines, want %d", ErrSheet, len(lines), Lines)
	}
	var b []byte
	for i, l := range lines {
		part, err := ParseLine(i+1, l)
		if err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	defer clear(b)
	return parseSheet([sheetLen]byte(b))
}

func parseSheet(b [sheetLen]byte) (*Sheet, error) {
	if check := sheetCheck(b[:42]); !equal(check[:], b[42:]) {
		return nil, fmt.Errorf("%w: each is right by itself, so they may be of two sheets", ErrSheet)
	}
	s := &Sheet{kind: b[1], Needed: int(b[2]), Made: int(b[3]), Number: int(b[4]), of: [5]byte(b[5:10]), payload: [keyLen]byte(b[10:42])}
	switch {
	case b[0] != version:
		return nil, fmt.Errorf("%w of this version: %d, this program knows %d", ErrSheet, b[0], version)
	case s.kind != kindX && s.kind != kindPQ:
		return nil, fmt.Errorf("%w: a key of kind %d", ErrSheet, s.kind)
	case s.Needed == 1 && s.Made == 1 && s.Number == 0:
	case s.Needed == 2 && s.Made >= 2 && s.Made <= MaxShares && s.Number >= 1 && s.Number <= s.Made:
	default:
		return nil, fmt.Errorf("%w: share %d of %d, %d needed", ErrSheet, s.Number, s.Made, s.Needed)
	}
	return s, nil
}

// Of says whether the sheet is of the key with that public half.
func (s *Sheet) Of(recipient string) bool { return s.of == keyID(recipient) }
