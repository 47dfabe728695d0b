package state

import (
	"errors"

	"breakglass/ledger"
)

// applySucceeded begins a ledger that follows a lost one: founded, with the jumps that had joined; what they report is numbered anew.
func (t *Tx) applySucceeded(idx int64, f *ledger.SiteSucceeded) error {
	if err := t.exec(`INSERT INTO facts_of_site (one, idx, site, policy_idx, policy, founded) VALUES (1, $1, $2, -1, '', 1)`, idx, text(f.Site)); err != nil {
		return err
	}
	for _, j := range f.Site.Jumps {
		if err := t.exec(`INSERT INTO jumps (name, idx, jump, number, fact) VALUES ($1, $2, $3, 0, '')`, string(j.Name), idx, text(j)); err != nil {
			return err
		}
	}
	return t.applyRetired(&f.Site)
}

// OpenLost opens the ledger of another CA that is only read any more: nothing can be appended to it, and no head of it is signed.
func OpenLost(dir, origin string) (*State, error) {
	s, err := Open(Config{Dir: dir, Origin: origin, Signer: unsigned(origin)})
	if err == nil {
		s.Freeze(errLost)
	}
	return s, err
}

var errLost = errors.New("this ledger is over")
