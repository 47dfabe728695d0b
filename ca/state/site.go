package state

import (
	"encoding/json"
	"slices"
	"sync/atomic"

	"breakglass/ledger"
)

// parsedSite keeps the site that was read last, by its exact text: every act asks for it, and it hardly ever changes. Its jumps are each
// reader's own, for a join changes them; nobody changes anything else in it.
type parsedSite struct {
	last atomic.Pointer[textAndSite]
}

type textAndSite struct {
	text string
	site ledger.Site
}

func (p *parsedSite) parse(text string) (ledger.Site, error) {
	if l := p.last.Load(); l != nil && l.text == text {
		return l.mine(), nil
	}
	l := &textAndSite{text: text}
	if err := json.Unmarshal([]byte(text), &l.site); err != nil {
		return ledger.Site{}, err
	}
	p.last.Store(l)
	return l.mine(), nil
}

func (l *textAndSite) mine() ledger.Site {
	s := l.site
	s.Jumps = slices.Clone(s.Jumps)
	return s
}
