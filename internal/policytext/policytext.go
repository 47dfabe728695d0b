// Package policytext is the shape of a policy's text, without its meaning: what policy loads, what the ledger holds in pieces, and how an
// import adds to it. Whoever holds the same pieces makes the same text, byte for byte, and its SHA-256 covers every file of it.
//
// # A policy of several files
//
// A text is either one TOML file, or a set: files one behind the other, each after a line "-- NAME --" (the txtar format's marker, at a line's
// start, closed by " --" and a line feed). A set begins with "-- policy.toml --"; what follows are files of hosts. The first line decides, for a
// TOML file can't begin so. A marker inside a file would begin another one: Join refuses it.
//
// # Pieces
//
// An entry of the ledger holds at most 64 KiB, so a long text is cut into pieces (Cut) whose concatenation is the text. The cuts depend on the
// text around them alone: a change in one place leaves the other pieces as they were, and those are not stored again.
package policytext

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"strings"
	"unicode/utf8"
)

const (
	// Main is the name of a set's first file.
	Main = "policy.toml"
	// Imported is the name of the file, always the last, that holds the hosts that operators imported.
	Imported = "imported.toml"
	// MaxFiles bounds a set.
	MaxFiles = 256
	// maxName bounds a file's name.
	maxName = 200
)

// ErrSet is what the errors of Split and Join wrap.
var ErrSet = errors.New("malformed policy set")

// File is one file of a set.
type File struct {
	Name string // relative, with slashes: "hosts/web.toml"
	Text string
	Line int // of the text in the set at which the file's first line stands, from 1; Join doesn't read it
}

const markerStart, markerEnd = "-- ", " --"

// IsSet tells a set from a single file.
func IsSet(text string) bool { return strings.HasPrefix(text, markerStart+Main+markerEnd+"\n") }

// Split gives the files of a text: of a single file that one, named Main.
func Split(text string) ([]File, error) {
	if !IsSet(text) {
		return []File{{Name: Main, Text: text, Line: 1}}, nil
	}
	var out []File
	seen := map[string]bool{}
	line := 0
	for rest := text; rest != ""; {
		l, after, _ := strings.Cut(rest, "\n")
		line++
		if n, ok := marker(l); ok {
			if err := checkName(n); err != nil {
				return nil, fmt.Errorf("%w: line %d: %w", ErrSet, line, err)
			}
			if seen[n] {
				return nil, fmt.Errorf("%w: line %d: %q stands in it twice", ErrSet, line, n)
			}
			if len(out) == MaxFiles {
				return nil, fmt.Errorf("%w: more than %d files", ErrSet, MaxFiles)
			}
			if seen[Imported] {
				return nil, fmt.Errorf("%w: line %d: %s is the last file, or there is none", ErrSet, line, Imported)
			}
			seen[n] = true
			out = append(out, File{Name: n, Line: line + 1})
		} else {
			f := &out[len(out)-1] // the first line is a marker
			f.Text = text[len(text)-len(rest)-len(f.Text) : len(text)-len(after)]
		}
		rest = after
	}
	if len(out) == 1 {
		return nil, fmt.Errorf("%w: a policy of one file is that file alone, without %q", ErrSet, markerStart+Main+markerEnd)
	}
	return out, nil
}

func marker(line string) (string, bool) {
	n, ok := strings.CutPrefix(line, markerStart)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(n, markerEnd)
}

func checkName(n string) error {
	if n == "" || len(n) > maxName || path.Clean(n) != n || path.IsAbs(n) || strings.HasPrefix(n, "../") || n == ".." || !strings.HasSuffix(n, ".toml") {
		return fmt.Errorf("file name %q: want a relative path that ends with .toml", n)
	}
	for _, r := range n {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-./", r) {
			return fmt.Errorf("file name %q: only letters, digits, '_', '-', '.' and '/'", n)
		}
	}
	return nil
}

// Join makes the text of files: of one alone, its own text.
func Join(files []File) (string, error) {
	if len(files) == 0 || files[0].Name != Main {
		return "", fmt.Errorf("%w: the first file is %s", ErrSet, Main)
	}
	if len(files) == 1 && !IsSet(files[0].Text) {
		return files[0].Text, nil
	}
	var b strings.Builder
	for _, f := range files {
		if err := checkName(f.Name); err != nil {
			return "", fmt.Errorf("%w: %w", ErrSet, err)
		}
		for i, l := range strings.Split(f.Text, "\n") {
			if _, ok := marker(l); ok {
				return "", fmt.Errorf("%w: %s: line %d would begin another file", ErrSet, f.Name, i+1)
			}
		}
		b.WriteString(markerStart + f.Name + markerEnd + "\n" + f.Text)
		if f.Text != "" && !strings.HasSuffix(f.Text, "\n") {
			b.WriteString("\n")
		}
	}
	text := b.String()
	if _, err := Split(text); err != nil {
		return "", err
	}
	return text, nil
}

// Import gives the text that a policy has once hosts, the text of a file of hosts, was imported: it stands at the end of the file Imported. Importing
// one text after another is importing both at once.
func Import(policy, hosts string) (string, error) {
	files, err := Split(policy)
	if err != nil {
		return "", err
	}
	if last := &files[len(files)-1]; last.Name == Imported {
		if last.Text != "" && !strings.HasSuffix(last.Text, "\n") {
			last.Text += "\n"
		}
		last.Text += hosts
	} else {
		files = append(files, File{Name: Imported, Text: hosts})
	}
	if !strings.HasSuffix(hosts, "\n") {
		return "", fmt.Errorf("%w: the imported hosts don't end with a line feed", ErrSet)
	}
	return Join(files)
}

// Sizes of pieces, in bytes of a JSON string.
const (
	minPiece = 12 << 10 // the entry that adopts a policy names all its pieces, at 67 bytes each
	maxPiece = 48 << 10 // an entry has 65,535 in all
	oneIn    = 16       // table headers begin a piece
	// MaxPieces is how many an entry can name, beside a diff.
	MaxPieces = 800
)

// Cut gives the pieces of a text, each at most maxPiece bytes as a JSON string. They begin at table headers where they can.
func Cut(text string) []string {
	var out []string
	start, weight := 0, 0
	flush := func(end int) {
		if end > start {
			out = append(out, text[start:end])
			start, weight = end, 0
		}
	}
	for at := 0; at < len(text); {
		end := len(text)
		if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		line := text[at:end]
		w := escaped(line)
		if weight+w > maxPiece || weight >= minPiece && line[0] == '[' && begins(line) {
			flush(at)
		}
		if weight+w <= maxPiece {
			weight += w
			at = end
			continue
		}
		for at < end { // a line that is longer than a piece
			_, size := utf8.DecodeRuneInString(text[at:end])
			w := escaped(text[at : at+size])
			if weight+w > maxPiece {
				flush(at)
			}
			weight += w
			at += size
		}
	}
	flush(len(text))
	return out
}

func begins(line string) bool {
	h := fnv.New32a()
	h.Write([]byte(line))
	return h.Sum32()%oneIn == 0
}

// escaped is how long encoding/json makes it, at most.
func escaped(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t':
			n += 2
		case c < ' ', c == '<', c == '>', c == '&', c == 0x7f:
			n += 6
		case c >= utf8.RuneSelf:
			n += 6 // U+2028 is escaped, and so is what is no UTF-8
		default:
			n++
		}
	}
	return n
}

// Equal tells whether pieces make up a text.
func Equal(pieces []string, text string) bool {
	return bytes.Equal([]byte(strings.Join(pieces, "")), []byte(text))
}
