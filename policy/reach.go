package policy

import (
	"fmt"
	"strings"

	"breakglass/internal/name"
)

// index notes which rules name each person, so that a decision looks at those alone, in the order of the file. On a site of 500 rules a person
// stands in a few; the answer is the same as that of a walk over all.
func (p *Policy) index() {
	p.rulesOf = make(map[name.Person][]*Rule, len(p.people))
	for i := range p.Rules {
		for n := range p.Rules[i].who {
			p.rulesOf[n] = append(p.rulesOf[n], &p.Rules[i])
		}
	}
}

const (
	// maxScanned is up to how many hosts an unknown name is compared with each: with 20,000 that takes 20 ms, and whoever has a key could ask
	// for such names all day.
	maxScanned = 1000
	// maxSlip is how long a name may be to be looked for by its slips: each letter is some eighty of them.
	maxSlip = 64
)

// closeHost is the hint for a host that the policy doesn't know. On a large site only names one slip of a letter away are found.
func (p *Policy) closeHost(word string) string {
	if len(p.hosts) <= maxScanned {
		return didYouMean(word, sortedKeys(p.hosts))
	}
	if len(word) > maxSlip {
		return ""
	}
	w := strings.ToLower(word)
	if p.hosts[name.Host(w)] != nil {
		return fmt.Sprintf("did you mean %q?", w)
	}
	best := ""
	buf := make([]byte, 0, len(w)+1)
	try := func(head, middle, tail string) {
		buf = append(append(append(buf[:0], head...), middle...), tail...)
		if _, ok := p.hosts[name.Host(buf)]; ok && (best == "" || string(buf) < best) {
			best = string(buf)
		}
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	for i := range len(w) + 1 {
		for j := range letters {
			try(w[:i], letters[j:j+1], w[i:]) // one is left out
			if i < len(w) {
				try(w[:i], letters[j:j+1], w[i+1:]) // is another
			}
		}
		if i < len(w) {
			try(w[:i], "", w[i+1:]) // is too much
		}
		if i+1 < len(w) {
			try(w[:i], w[i+1:i+2]+w[i:i+1], w[i+2:]) // two are swapped
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}
