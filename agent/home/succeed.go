package home

import (
	"fmt"

	"breakglass/ca/api"
	"breakglass/internal/durable"
)

// Succeed pins what follows the pinned ledger, and keeps the old pins and the newest head seen of them: they are evidence, and prove what was signed then.
// Whoever is interrupted has the old pins or the new ones, and neither with the other's head.
func (h Home) Succeed(old, next api.Pins) error {
	b, err := old.Marshal()
	if err != nil {
		return fmt.Errorf("writing the pins: %w", err)
	}
	keep := func(what string) string { return h.Path(fmt.Sprintf("%s.epoch-%d", what, old.Site.Epoch)) }
	if err := durable.WriteFile(keep("pins"), b, 0o600); err != nil {
		return fmt.Errorf("keeping the old pins: %w", err)
	}
	m := Memory{Home: h}
	last, err := m.Last()
	if err != nil {
		return fmt.Errorf("reading the last checkpoint: %w", err)
	}
	if last != "" {
		if err := durable.WriteFile(keep("checkpoint"), []byte(last), 0o600); err != nil {
			return fmt.Errorf("keeping the last checkpoint: %w", err)
		}
		if err := durable.Remove(m.path()); err != nil { // the pins' own stands for it meanwhile
			return err
		}
	}
	return h.SavePins(next)
}
