package statement

import (
	"fmt"
	"strings"
)

// OrderImportHosts adds new hosts to the policy in force. Its target is the SHA-256 of the policy before and of the one after (ImportTarget), its detail
// that of the hosts' text: what is signed counts for this text behind that policy, and not once another is in force.
const OrderImportHosts = "import-hosts"

const importArrow = ".."

// ImportTarget is the target of an import's order.
func ImportTarget(before, after Hash) string { return before.String() + importArrow + after.String() }

// ParseImportTarget reads it.
func ParseImportTarget(s string) (before, after Hash, err error) {
	b, a, ok := strings.Cut(s, importArrow)
	if ok {
		err = before.UnmarshalText([]byte(b))
		if err == nil {
			err = after.UnmarshalText([]byte(a))
		}
	}
	if err != nil || !ok || ImportTarget(before, after) != s || before == after {
		return Hash{}, Hash{}, fmt.Errorf("import %q: want the SHA-256 of the policy before, %q and that of the policy after", s, importArrow)
	}
	return before, after, nil
}
