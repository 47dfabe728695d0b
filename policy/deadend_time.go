package policy

import (
	"slices"
	"time"

	"breakglass/internal/name"
)

const (
	// maxMoments bounds the kinds of time that are played: windows cut a week into a few dozen.
	maxMoments = 400
	// maxLooks bounds how often a window's dates are looked at to find them.
	maxLooks = 10_000_000
)

// moments gives one instant of each kind of time that the policy tells apart: of all that are in the same windows one will do. The first is an
// ordinary night. whole is false where not all were found.
func moments(p *Policy) (out []time.Time, whole bool) {
	out = []time.Time{testTime}
	var windows []*Window
	look := 0
	for i := range p.Rules {
		for _, n := range slices.Concat(p.Rules[i].When, p.Rules[i].NotWhen) {
			if w := p.Windows[n]; w != nil && !slices.Contains(windows, w) {
				windows = append(windows, w)
				look += 1 + len(w.Dates)
			}
		}
	}
	kind := func(t time.Time) string {
		b := make([]byte, len(windows))
		for i, w := range windows {
			b[i] = '0'
			if w.Contains(t) {
				b[i] = '1'
			}
		}
		return string(b)
	}
	seen, looks := map[string]bool{kind(testTime): true}, 0
	for _, d := range daysOf(windows) {
		for _, w := range windows {
			for _, edge := range w.edges(d) {
				for _, t := range []time.Time{edge, edge.Add(-time.Second)} {
					if looks += look; looks > maxLooks || len(out) >= maxMoments {
						return out, false
					}
					if k := kind(t); !seen[k] {
						seen[k] = true
						out = append(out, t)
					}
				}
			}
		}
	}
	return out, true
}

// daysOf are a week, and of each span of dates its first days, its last and the one after.
func daysOf(windows []*Window) []Date {
	var out []Date
	today := DateOf(testTime.Date())
	for d := today; d < today+8; d++ {
		out = append(out, d)
	}
	for _, w := range windows {
		for _, s := range w.Dates {
			for d := s.First - 1; d <= min(s.Last, s.First+8); d++ {
				out = append(out, d)
			}
			out = append(out, s.Last, s.Last+1)
		}
	}
	return out
}

// lastDay is the last day on which a window is ever open; ok is false for one without dates.
func (w *Window) lastDay() (d Date, ok bool) {
	for _, s := range w.Dates {
		d, ok = max(d, s.Last), true
	}
	return d, ok
}

// windows finds windows that never are, or never again, and windows that no rule uses.
func (k *checker) windows(now time.Time) {
	used := map[name.Window]bool{}
	for i := range k.p.Rules {
		for _, n := range slices.Concat(k.p.Rules[i].When, k.p.Rules[i].NotWhen) {
			used[n] = true
		}
	}
	for _, n := range sortedKeys(k.p.Windows) {
		w := k.p.Windows[name.Window(n)]
		last, dated := w.lastDay()
		switch {
		case w.never():
			k.add(SeverityError, w.Line, "look at days and dates together", "window %q never is: none of its dates is one of its days", n)
		case !used[w.Name]:
			k.add(SeverityWarning, w.Line, "use it in a rule's when or not_when, or remove it", "window %q is used nowhere", n)
		case dated && !now.IsZero() && last+1 < DateOf(now.In(w.Zone).Date()):
			k.add(SeverityWarning, w.Line, "write new dates, or remove it", "window %q is over: its last day was %s", n, last)
		}
	}
}
