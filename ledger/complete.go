package ledger

import (
	"cmp"
	"slices"
	"time"

	"breakglass/internal/name"
)

// What a whole ledger lacks: nothing in it contradicts an entry that was never written, so it is looked for.

// CompleteAfter is how long after a grant's end its sessions' last entries may be missing before that is a fault: a jump that was cut off tells late, and stores late.
const CompleteAfter = 24 * time.Hour

// Incomplete is what is missing of grants whose end has passed.
type Incomplete struct {
	// Unused are grants under whose certificates no session was opened. That is no fault: somebody asked and did not go in, by any jump. A certificate shown to a host
	// itself opens nothing there (`reconcile` looks into the hosts' logs).
	Unused []name.RequestID
	// Unended are sessions that no jump has told the end of, and Unstored those that are over and whose recording the store never got whole.
	Unended, Unstored []name.SessionID
}

// complete looks for what is missing as of a time, and calls what is late a fault.
func (a *Audit) complete(now time.Time) (out Incomplete) {
	ids := make([]name.RequestID, 0, len(a.grants))
	for id := range a.grants {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y name.RequestID) int {
		return cmp.Or(cmp.Compare(a.grants[x].RequestIndex, a.grants[y].RequestIndex), cmp.Compare(x, y))
	})
	for _, id := range ids {
		g := a.grants[id]
		if g.Allowed == nil || g.Extended != nil || !g.Until.Before(now) {
			continue
		}
		if len(g.Certificates) > 0 && len(g.Sessions) == 0 {
			out.Unused = append(out.Unused, id)
		}
		late := now.Sub(g.Until) > CompleteAfter
		for _, s := range g.Sessions {
			head, _ := s.Head()
			switch {
			case head == nil:
				out.Unended = append(out.Unended, s.ID)
				if late {
					a.fault(FaultSession, "session %s has no end, %v after its grant's: entry %d opened it", s.ID, now.Sub(g.Until).Round(time.Hour), s.OpenedIndex)
				}
			case s.Stored == nil && head.Frames > 0:
				out.Unstored = append(out.Unstored, s.ID)
				if late {
					a.fault(FaultTranscript, "the recording of %s was never stored whole: entry %d tells its end", s.ID, s.OverIndex)
				}
			}
		}
	}
	return out
}
