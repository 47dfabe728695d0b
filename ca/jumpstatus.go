package ca

import (
	"time"

	"breakglass/ca/state"
	"breakglass/internal/name"
)

// JumpStatus is one jump's line.
type JumpStatus struct {
	Name      name.Jump
	Addresses []string
	Facts     int64     // that it has reported
	Heard     time.Time // its last call; a jump calls every few seconds. Zero: none since the CA's start
	Sessions  int       // that run on it, as far as it has told
	Behind    int       // sessions that ended on it and whose recording isn't stored yet
}

// jumpStatus reads the jumps that aren't revoked.
func (c *CA) jumpStatus(tx *state.Tx) ([]JumpStatus, error) {
	jumps, err := tx.Jumps()
	if err != nil {
		return nil, err
	}
	loads, err := tx.JumpLoads()
	if err != nil {
		return nil, err
	}
	var out []JumpStatus
	for _, j := range jumps {
		l := loads[j.Jump.Name]
		out = append(out, JumpStatus{Name: j.Jump.Name, Addresses: j.Jump.Addresses, Facts: j.Number, Heard: c.clocks.last(j.Jump.Name), Sessions: l.Open, Behind: l.Behind})
	}
	return out, nil
}

// last is when the jump's last call came, by our clock.
func (c *clocks) last(j name.Jump) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[j].at
}
