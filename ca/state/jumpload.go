package state

import (
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// Load is what a jump has in hand.
type Load struct {
	Open   int // sessions that run
	Behind int // sessions that are over, and whose recording isn't stored; one that had none isn't waited for
}

// JumpLoads counts the sessions of each jump, as far as the jumps have told.
func (t *Tx) JumpLoads() (map[name.Jump]Load, error) {
	rows, err := t.tx.Query(`SELECT jump, SUM(state = 'open'), SUM(state <> 'open' AND stored = 0 AND envelope <> $1) FROM sessions
		WHERE state = 'open' OR stored = 0 GROUP BY jump`, statement.Hash{}.String())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[name.Jump]Load{}
	for rows.Next() {
		var j name.Jump
		var l Load
		if err := rows.Scan(&j, &l.Open, &l.Behind); err != nil {
			return nil, err
		}
		out[j] = l
	}
	return out, rows.Err()
}
