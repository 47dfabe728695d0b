package policy

import (
	"regexp/syntax"
	"strings"
	"unicode"
)

// maxSample bounds a made-up ticket: a pattern like (a{100}){100} would make a long one.
const maxSample = 200

// sampleTicket makes up a ticket that fits a rule's pattern, the shortest by and large; "" if none could be made. It is the caller's to try it.
func sampleTicket(pattern string) string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	var b strings.Builder
	writeSample(&b, re)
	return b.String()
}

func writeSample(b *strings.Builder, re *syntax.Regexp) {
	if b.Len() > maxSample {
		return
	}
	repeat := func(n int) {
		for range n {
			writeSample(b, re.Sub[0])
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		b.WriteRune(plainest(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
	case syntax.OpPlus, syntax.OpCapture:
		repeat(1)
	case syntax.OpRepeat:
		repeat(re.Min)
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			writeSample(b, sub)
		}
	case syntax.OpAlternate:
		// The first branch that isn't empty: an empty ticket fits no rule.
		for _, sub := range re.Sub {
			before := b.Len()
			if writeSample(b, sub); b.Len() > before {
				return
			}
		}
	}
}

// plainest gives a letter or digit of a class, else its first rune that prints.
func plainest(class []rune) rune {
	first := class[0]
	for i := 0; i+1 < len(class); i += 2 {
		for r := class[i]; r <= class[i+1] && r < 0x80; r++ {
			if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
				return r
			}
			if !unicode.IsPrint(first) && unicode.IsPrint(r) {
				first = r
			}
		}
	}
	return first
}
