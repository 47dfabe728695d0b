package connect

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// Order gives the jumps' addresses in the order in which a person's connections try them: the same each time, so that their sessions are in one
// place and what a jump knows of their hosts serves them again, and another for each person, so that forty jumps share the people and
// nobody has to say how. It is rendezvous hashing: a jump that goes away moves its own people and nobody else, and spreads them over all others.
// Addresses of one jump stay together, in their order; one that several jumps share stands once.
func Order(person name.Person, jumps []ledger.SiteJump) []string {
	weigh := func(j ledger.SiteJump) []byte {
		h := sha256.Sum256([]byte(string(person) + "\x00" + string(j.Name)))
		return h[:]
	}
	sorted := slices.Clone(jumps)
	slices.SortStableFunc(sorted, func(a, b ledger.SiteJump) int { return bytes.Compare(weigh(a), weigh(b)) })
	var out []string
	for _, j := range sorted {
		for _, a := range j.Addresses {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}
