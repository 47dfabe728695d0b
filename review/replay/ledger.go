package replay

import (
	"errors"
	"fmt"
	"iter"

	"breakglass/ledger"
	"breakglass/policy"
)

// Pass makes the decisions of a ledger again, entry by entry.
type Pass struct {
	Policies Policies
	Same     int // decisions that came out as the entry says
	// Skipped are decisions that can't be made again: entries from before inquiries were kept, refusals that were not the policy's, and those whose policy
	// this program can't read.
	Skipped int
	// Silent are entries of the skipped that let somebody in and hold no inquiry, though those before them do. An honest CA writes one where a person has
	// hundreds of grants at once; another one where the policy would not have let them in.
	Silent   []int64
	Findings []string // what came out otherwise
	// More counts findings beyond MaxFindings.
	More int

	asks     Asks
	recorded bool // an inquiry was there
}

// MaxFindings bounds what a Pass keeps: a program that decides otherwise would differ in every entry.
const MaxFindings = 100

// Add takes the next entry.
func (p *Pass) Add(index int64, e *ledger.Entry) {
	p.Policies.Add(e.Facts)
	defer p.asks.Add(e)
	d, err := Of(index, e)
	if d == nil {
		return
	}
	if errors.Is(err, ErrNotRecorded) {
		p.Skipped++
		if p.recorded && d.Answer.Outcome == policy.Allow && len(p.Silent) < MaxFindings {
			p.Silent = append(p.Silent, index)
		}
		return
	}
	p.recorded = true
	if err != nil {
		p.find("%v", err)
		return
	}
	by, err := p.Policies.Policy(d.Policy)
	var unreadable *policy.LoadError
	switch {
	case errors.As(err, &unreadable):
		p.Skipped++
		return
	case err != nil:
		p.find("entry %d, %s: %v", index, d.Type, err)
		return
	}
	_, differences := d.Again(by)
	differences = append(differences, p.asks.Differences(d, e)...)
	for _, what := range differences {
		p.find("entry %d, %s: %s", index, d.Type, what)
	}
	if len(differences) == 0 {
		p.Same++
	}
}

func (p *Pass) find(format string, a ...any) {
	if len(p.Findings) == MaxFindings {
		p.More++
		return
	}
	p.Findings = append(p.Findings, fmt.Sprintf(format, a...))
}

// Decisions gives those of a ledger's entries that can be made again, in order, and gathers the policies on the way.
func Decisions(entries iter.Seq2[[]byte, error], policies *Policies) iter.Seq2[*Decision, error] {
	return func(yield func(*Decision, error) bool) {
		n := int64(-1)
		for raw, err := range entries {
			n++
			if err != nil {
				yield(nil, err)
				return
			}
			e, err := ledger.Decode(raw)
			if err != nil {
				yield(nil, fmt.Errorf("entry %d: %w", n, err))
				return
			}
			policies.Add(e.Facts)
			d, err := Of(n, e)
			if errors.Is(err, ErrNotRecorded) || d == nil {
				continue
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}
