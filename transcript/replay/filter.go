// Package replay shows recordings: on a terminal at their own pace, as text, as asciicast.
//
// Guarantee, to the viewer: whatever the recorded person or host sent, nothing that this package writes makes the viewer's
// terminal answer, change its title, clipboard, keyboard, mouse or palette, erase its scrollback, print, or stay changed
// after the replay. It knows a set of harmless sequences and lets only those through; everything else is dropped, or
// shown as text. (Escape sequences in recordings are a known way to attack the reviewer: CVE-2003-0063 and its many
// children.)
package replay

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Filter makes a stream of terminal output safe. It keeps its state from call to call, since a sequence may come in pieces.
type Filter struct {
	text   bool // for reading, not for a screen: harmless sequences vanish, others are shown
	state  state
	seq    []byte // the sequence being read, from ESC on
	part   []byte // an incomplete UTF-8 encoding
	g      [2]bool
	shift  int
	alt    bool
	origin bool // origin mode was on at some time
	again  bool // the byte wasn't taken
}

type state byte

const (
	ground state = iota
	escape
	csi
	str    // OSC, DCS, SOS, PM, APC: until ST or BEL
	strEsc // an ESC within
	charset
)

// Limits.
const (
	// maxSeq ends a string that never ends, so that it can't hide all that follows from the viewer.
	maxSeq = 1024
	// maxParams and maxDigits bound what a sequence asks for: CSI 999999999 b would print a character a billion times.
	maxParams = 32
	maxDigits = 4
)

// replacement stands for one byte that is no character.
const replacement = "\uFFFD"

// lineDrawing is what DEC's special graphics show for ` to ~. We draw them, rather than let the set be switched.
const lineDrawing = "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·"

var lines = []rune(lineDrawing)

// Append appends to dst what of p may be shown.
func (f *Filter) Append(dst, p []byte) []byte {
	if len(f.part) > 0 {
		p = append(f.part, p...)
		f.part = nil
	}
	for len(p) > 0 {
		c := p[0]
		if c < 0x80 || f.state != ground {
			dst = f.byte(dst, c)
			if f.again {
				f.again = false // c is still to be taken, in ground state
			} else {
				p = p[1:]
			}
			continue
		}
		if !utf8.FullRune(p) {
			f.part = append(f.part, p...)
			return dst
		}
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			if f.text {
				dst = appendHex(dst, c)
			} else {
				dst = append(dst, replacement...)
			}
		} else if hidden(r) {
			dst = append(dst, "<U+"...)
			dst = append(dst, strings.ToUpper(strconv.FormatInt(int64(r), 16))...)
			dst = append(dst, '>')
		} else {
			dst = append(dst, p[:n]...)
		}
		p = p[n:]
	}
	return dst
}

// hidden: C1 controls (U+009B is CSI to xterm), bidirectional overrides (a command reads otherwise than it ran), and
// whatever else has no shape. The joiners stay: scripts and emoji need them.
func hidden(r rune) bool {
	if r == '\u200c' || r == '\u200d' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// byte takes one byte in ground state below 0x80, or any within a sequence.
func (f *Filter) byte(dst []byte, c byte) []byte {
	switch f.state {
	case ground:
		return f.ground(dst, c)
	case escape:
		f.seq = append(f.seq, c)
		switch {
		case c == 0x1b:
			f.seq = f.seq[:1]
		case c == '[':
			f.state = csi
		case c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_':
			f.state = str
		case c >= 0x20 && c <= 0x2f:
			f.state = charset
		case c < 0x20 || c > 0x7e:
			return f.cancel(dst)
		default:
			return f.end(dst, f.esc(c))
		}
	case charset: // ESC, intermediates, one final
		switch {
		case c >= 0x20 && c <= 0x2f && len(f.seq) < maxSeq:
			f.seq = append(f.seq, c)
		case c >= 0x30 && c <= 0x7e:
			f.seq = append(f.seq, c)
			f.designate()
			return f.end(dst, "")
		default:
			return f.cancel(dst)
		}
	case csi:
		switch {
		case c >= 0x20 && c <= 0x3f && len(f.seq) < maxSeq:
			f.seq = append(f.seq, c)
		case c >= 0x40 && c <= 0x7e:
			f.seq = append(f.seq, c)
			return f.end(dst, f.csi())
		default:
			return f.cancel(dst)
		}
	case str:
		switch {
		case c == 0x07:
			f.seq = append(f.seq, c)
			return f.end(dst, reject)
		case c == 0x1b:
			f.state = strEsc
		case c == 0x18 || c == 0x1a || len(f.seq) >= maxSeq:
			return f.cancel(dst)
		default:
			f.seq = append(f.seq, c)
		}
	case strEsc:
		if c == '\\' {
			f.seq = append(f.seq, 0x1b, c)
			return f.end(dst, reject)
		}
		// An ESC that begins something else ends the string, as in xterm.
		dst = f.end(dst, reject)
		f.state, f.seq = escape, append(f.seq[:0], 0x1b)
		return f.byte(dst, c)
	}
	return dst
}

// reject is a sequence that isn't let through.
const reject = "\x00"

// end leaves a sequence, with what is to be written in its place.
func (f *Filter) end(dst []byte, out string) []byte {
	switch {
	case out == reject && f.text:
		dst = appendEscaped(dst, f.seq)
	case out != reject && !f.text:
		dst = append(dst, out...)
	}
	f.state, f.seq = ground, f.seq[:0]
	return dst
}

// cancel leaves a sequence that is none. The byte that ended it is taken as if it stood alone.
func (f *Filter) cancel(dst []byte) []byte {
	if n := len(f.seq); f.state == escape {
		f.seq = f.seq[:n-1]
	}
	f.again = true
	return f.end(dst, reject)
}

func (f *Filter) ground(dst []byte, c byte) []byte {
	switch {
	case c == 0x1b:
		f.state, f.seq = escape, append(f.seq[:0], c)
		return dst
	case c >= 0x60 && c <= 0x7e && f.g[f.shift]:
		return utf8.AppendRune(dst, lines[c-0x60])
	case c >= 0x20 && c <= 0x7e:
		return append(dst, c)
	case c == '\n' || c == '\t':
		return append(dst, c)
	case c == '\r' || c == '\b':
		if f.text {
			if c == '\b' {
				dst = append(dst, `\b`...)
			}
			return dst
		}
		return append(dst, c)
	case c == 0x0b || c == 0x0c:
		return append(dst, '\n')
	case c == 0x0e || c == 0x0f: // shift out, in
		f.shift = int(0x0f - c)
		return dst
	}
	// The rest goes: BEL is a nuisance, ENQ makes the terminal answer, XOFF may stop it.
	if f.text && c != 0 && c != 7 {
		return appendHex(dst, c)
	}
	return dst
}

// esc judges ESC c.
func (f *Filter) esc(c byte) string {
	switch c {
	case '7', '8', 'D', 'E', 'M': // cursor: save, restore, index, next line, reverse index
		return "\x1b" + string(c)
	case 'c': // RIS would clear the scrollback and reset what the viewer has set: show its visible part only
		f.g, f.shift = [2]bool{}, 0
		return "\x1b[m\x1b[r\x1b[2J\x1b[H"
	case '\\', '=', '>': // ST without a string; keypad modes: harmless to leave out
		return ""
	}
	return reject
}

// designate follows ESC ( x and ESC ) x; the switch itself never gets through.
func (f *Filter) designate() {
	if len(f.seq) == 3 && (f.seq[1] == '(' || f.seq[1] == ')') {
		f.g[f.seq[1]-'('] = f.seq[2] == '0'
	}
}

// csi judges a whole control sequence.
func (f *Filter) csi() string {
	body, final := string(f.seq[2:len(f.seq)-1]), f.seq[len(f.seq)-1]
	private := strings.HasPrefix(body, "?")
	params, ok := split(strings.TrimPrefix(body, "?"), final == 'm')
	if !ok {
		return reject
	}
	max := -1 // of params
	switch final {
	case 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'd', '`', 'a', 'e', // cursor
		'K', 'X', 'L', 'M', 'P', '@', 'S', 'T', 'Z', 'I', 'b': // erase, insert, delete, scroll, tab, repeat
		max = 1 // CSI T with more would be mouse tracking
	case 'H', 'f', 'r':
		max = 2
	case 's', 'u':
		max = 0
	case 'm':
		max = maxParams
	case 'J':
		if len(params) == 1 && params[0] == "3" {
			return reject // the scrollback is the viewer's
		}
		max = 1
	case 'h', 'l':
		if !private {
			if len(params) == 1 && params[0] == "4" { // insert
				return string(f.seq)
			}
			return reject
		}
		return f.modes(params, final)
	}
	if private || len(params) > max {
		return reject
	}
	return string(f.seq)
}

// modes lets DEC private modes through that the end of the replay can undo.
func (f *Filter) modes(params []string, final byte) string {
	var out strings.Builder
	for _, p := range params {
		switch p {
		case "47", "1047", "1049":
			f.alt = final == 'h'
			p = "1049" // one way in and out, so that the end is sure to find it
		case "6":
			f.origin = f.origin || final == 'h' // for good: 8 may bring it back
		case "7", "25": // wrap, cursor shown
		default: // keyboard, mouse, paste, focus …
			continue
		}
		out.WriteString("\x1b[?" + p + string(final))
	}
	return out.String()
}

// split checks the parameters: numbers of at most maxDigits digits, with colons within for colours only.
func split(s string, colons bool) ([]string, bool) {
	if s == "" {
		return nil, true
	}
	ps := strings.Split(s, ";")
	if len(ps) > maxParams {
		return nil, false
	}
	for _, p := range ps {
		for _, q := range strings.Split(p, ":") {
			if len(q) > maxDigits || strings.Trim(q, "0123456789") != "" {
				return nil, false
			}
		}
		if !colons && strings.Contains(p, ":") {
			return nil, false
		}
	}
	return ps, true
}

// Reset gives what brings the terminal back after a replay that stopped anywhere.
func (f *Filter) Reset() []byte {
	var b []byte
	if f.alt {
		b = append(b, "\x1b[?1049l"...)
	}
	if f.origin {
		// Origin mode moves the cursor home when it ends: what comes next goes below, not over the recording.
		b = append(b, "\x1b[?6l\x1b[r\x1b[999H"...)
	} else {
		// CSI r moves the cursor: save and restore it around. 8 restores colours too, so they go last.
		b = append(b, "\x1b7\x1b[r\x1b8"...)
	}
	return append(b, "\x1b[4l\x1b[?7h\x1b[?25h\x1b[m"...)
}

// Flush ends the stream: what is incomplete is shown or dropped.
func (f *Filter) Flush(dst []byte) []byte {
	for range f.part {
		dst = append(dst, replacement...)
	}
	f.part = nil
	if f.state != ground {
		dst = f.end(dst, reject)
	}
	return dst
}

func appendHex(dst []byte, c byte) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'x', digits[c>>4], digits[c&15])
}

// appendEscaped shows bytes as text: \e for ESC, \xNN for what isn't printable ASCII.
func appendEscaped(dst, b []byte) []byte {
	for _, c := range b {
		switch {
		case c == 0x1b:
			dst = append(dst, `\e`...)
		case c >= 0x20 && c <= 0x7e:
			dst = append(dst, c)
		default:
			dst = appendHex(dst, c)
		}
	}
	return dst
}
