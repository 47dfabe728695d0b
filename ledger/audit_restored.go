package ledger

import "slices"

// restored demands that what came back stands before the entry that says so, and that nobody but local root gives up what may be missing.
func (a *Audit) restored(f *CARestored) {
	if a.cfg.Part {
		return
	}
	if f.Entries < 1 || f.Entries > a.index {
		a.fault(FaultOrder, "went on from %d entries, at entry %d", f.Entries, a.index)
	}
	if (f.Lost != 0 || len(f.Silent) > 0 || len(f.Jumps) == 0) && a.e.Actor != ActorRoot {
		a.fault(FaultSite, "went on without all that its jumps keep, on nobody's word")
	}
	for _, j := range slices.Concat(f.Jumps, f.Silent) {
		if a.jumps[j] == nil {
			a.fault(FaultSite, "names jump %s, which did not join", j)
		}
	}
}
