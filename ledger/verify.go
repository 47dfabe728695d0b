package ledger

import (
	"fmt"
	"iter"
	"time"

	"breakglass/internal/statement"
)

// noClock leaves a certificate's clock unjudged: an entry is judged by its own time, not by the auditor's.
var noClock time.Time

// Report is what Verify found in a copy of a ledger.
type Report struct {
	Checkpoint Checkpoint
	Entries    int64
	Keys       int // enrolled
	Grants     int // allowed
	Sessions   int // opened
	Site       *Site
	Findings   []Finding
	More       int // findings beyond MaxFindings
	Missing    Incomplete
}

// OK says that nothing is wrong.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// Err is nil or the first finding, with how many there are.
func (r *Report) Err() error {
	switch n := len(r.Findings) + r.More; n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("ledger: %s", r.Findings[0])
	default:
		return fmt.Errorf("ledger: %s (and %d more)", r.Findings[0], n-1)
	}
}

// Verify audits a whole copy with no server: entries are the exact bytes in order, signed is the checkpoint over all of them,
// vkey the ledger's key as it was pinned elsewhere. It finds every byte changed in an entry, every entry removed, swapped or added, every changed
// checkpoint, by the root; and, in a log that was rewritten by whoever holds its key, what that key can't make: people's and machines' signatures,
// and the histories that people signed. The error is that of reading the entries; faults of the log are in the report.
// Entries are read by another goroutine, which has ended when Verify returns.
func Verify(entries iter.Seq2[[]byte, error], signed, vkey string) (*Report, error) {
	tree := &Memory{}
	a := NewAudit(AuditConfig{LedgerKey: vkey, History: func(seen statement.Checkpoint, index int64) error {
		if seen.Size > index {
			return fmt.Errorf("of %d entries, at entry %d", seen.Size, index)
		}
		had, err := tree.Checkpoint(seen.Size)
		if err == nil && had != seen {
			err = fmt.Errorf("root of %d entries is %s, signed was %s", seen.Size, had.Root, seen.Root)
		}
		return err
	}})
	r := &Report{}
	var now time.Time // of the last entry that can be read
	ahead := checkAhead(entries)
	defer ahead.stop()
	for j := range ahead.jobs {
		raw, err := j.raw, j.err
		if err != nil {
			return nil, fmt.Errorf("reading ledger entry %d: %w", tree.Size(), err)
		}
		if len(raw) > MaxEntry {
			return nil, fmt.Errorf("reading ledger entry %d: %w: %d bytes, limit %d", tree.Size(), ErrEntry, len(raw), MaxEntry)
		}
		a.add(tree.Size(), raw, <-j.checked)
		if a.e != nil {
			now = a.e.Time.Time
		}
		if err := tree.Append(raw); err != nil {
			return nil, err
		}
	}
	a.index, a.e = -1, nil
	if tree.Size() == 0 {
		a.fault(FaultOrder, "no entries")
	}
	c, err := OpenCheckpoint(signed, vkey)
	if err != nil {
		a.fault(FaultCheckpoint, "%v", err)
	} else if c.Size != tree.Size() {
		a.fault(FaultCheckpoint, "signs %d entries, the copy has %d", c.Size, tree.Size())
	} else if head, err := tree.Checkpoint(c.Size); err != nil {
		return nil, err
	} else if head.Root != c.Root {
		a.fault(FaultRoot, "the entries have root %s, signed is %s", head.Root, c.Root)
	}
	r.Missing = a.complete(now)
	r.Checkpoint, r.Entries, r.Site = c, tree.Size(), a.site
	r.Keys, r.Grants, r.Sessions = a.Counts()
	r.Findings, r.More = a.Findings()
	return r, nil
}
