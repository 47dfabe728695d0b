package policy

import (
	"fmt"

	"breakglass/internal/bytesize"
)

// A session may carry so many bytes, both directions and all channels together. Whoever needs more gives another touch: each extension brings
// as much again. Without it one session could fill the store, and the longest copy would need no more of a person than a glance.

const (
	// DefaultBudget carries a database's dump, and not a warehouse's.
	DefaultBudget int64 = 16 << 30
	// minBudget lets a screen or two through: less is a mistake in the unit.
	minBudget int64 = 1 << 20
	maxBudget int64 = 1 << 50
)

func (c *compiler) size(s string, path []string, otherwise int64) int64 {
	if !c.ix.has(path...) {
		return otherwise
	}
	n, ok := bytesize.Parse(s)
	if !ok || n < minBudget || n > maxBudget {
		c.at(path, fmt.Sprintf(`write it like "512 MiB" or "4 GiB", from %s to %s`, bytesize.Text(minBudget), bytesize.Text(maxBudget)), "%s = %q", path[len(path)-1], s)
	}
	return n
}
