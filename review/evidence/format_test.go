package evidence_test

import (
	"io"
	"strings"
	"testing"

	"breakglass/review/evidence"
)

// TestTheInventoryOfALargeSiteFits: a bundle holds every policy that came before the grant. A host CA that is changed changes all of it, and a site must
// not lose its evidence by doing that twice.
func TestTheInventoryOfALargeSiteFits(t *testing.T) {
	const inventory = 7 << 20 // 20,000 hosts, as they stand in a bundle
	for changes, fits := range map[int]bool{1: true, 3: true, 8: true, 10: false} {
		e := &evidence.Evidence{Request: "k7f-2mq"}
		for i := range changes {
			e.Entries = append(e.Entries, evidence.Entry{Index: int64(i), Entry: strings.Repeat("x", inventory)})
		}
		if err := evidence.Write(io.Discard, e, nil); (err == nil) != fits {
			t.Errorf("%d times: %v", changes, err)
		}
	}
}
