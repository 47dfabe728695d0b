package evidence

import (
	"fmt"
	"path"
	"strings"
	"time"

	"breakglass/ledger"
)

// witnessSkew is how far a witness's clock may be behind the CA's: what it cosigned can't be younger than its cosignature.
const witnessSkew = 5 * time.Minute

// witnessed demands the quorum of the pins' witnesses under the checkpoint: without it whoever has the ledger's key could have made it for this bundle.
func (c *checker) witnessed() string {
	ws, err := ledger.ParseWitnesses(c.trust.Site)
	if err != nil {
		c.fail("pins", "%v", err)
		return ""
	}
	if ws.Quorum == 0 {
		c.note("the pins ask no witness: whoever has the ledger's key can show another history")
		return "no witness asked"
	}
	_, by, err := ws.Cosigned(c.e.Checkpoint, c.trust.Site.LedgerKey)
	if err != nil {
		c.fail("log", "%v", err)
		return ""
	}
	var names []string
	for _, b := range by {
		names = append(names, path.Base(b.Name))
	}
	got := fmt.Sprintf("%d of %d wanted", len(by), ws.Quorum)
	if len(by) < ws.Quorum {
		// What the CA says just now may be too new for its witnesses; a file has had the time.
		if !c.o.Fresh {
			c.fail("log", "cosigned by %s witnesses: the ledger's own key proves no history", got)
			return ""
		}
		c.until = append(c.until, fmt.Sprintf("%s: the log at %d entries is cosigned by %s witnesses", clock(c.newest()), c.head.Size, got))
		return "UNWITNESSED"
	}
	for _, b := range by {
		if late := c.newest().Sub(b.Time); late > witnessSkew {
			c.fail("log", "%s cosigned it at %s, an entry is of %s", b.Name, clock(b.Time), clock(c.newest()))
		}
	}
	return fmt.Sprintf("cosigned by %s (%s)", strings.Join(names, ", "), got)
}

// newest is the time of the newest entry.
func (c *checker) newest() time.Time {
	for i := len(c.e.Entries) - 1; i >= 0; i-- {
		if e, err := ledger.Decode([]byte(c.e.Entries[i].Entry)); err == nil {
			return e.Time.Time
		}
	}
	return time.Time{}
}
