package policy

import (
	"fmt"
	"slices"
	"time"

	"breakglass/internal/name"
)

// Window is an entry of [windows]: spans of time, told by a clock on the wall of a zone.
//
// Of each day that Days and Dates both allow it has one span, from From up to but not including To. A span that passes midnight (From after To)
// belongs to the day on which it begins: "fri" from 22:00 to 06:00 reaches into Saturday, whether Saturday is listed or not.
//
// The wall's clock decides, so that everybody can tell from a clock whether a window is open. Where it is put forward, the times that it
// leaves out never are: a window that lies wholly between 02:00 and 03:00 is not open that day, and one from 02:30 to 05:00 opens at 03:00. Where it
// is put back, an hour is shown twice and is in or out of the window both times: 02:30 to 03:30 is open, shut for half an hour, and
// open again. A night from 22:00 to 06:00 has an hour less or more.
type Window struct {
	Name  name.Window
	Zone  *time.Location
	Days  [7]bool // by time.Weekday; of a window without days all
	From  int     // minutes of the day
	To    int     // up to 24*60
	Dates []Dates // empty: every date
	Line  int
}

// Dates are days of the calendar, both ends included.
type Dates struct{ First, Last Date }

// Date is a day of the calendar, in days since 1970-01-01: of no zone.
type Date int

const dayMinutes = 24 * 60

// DateOf is the day that is written on the wall's calendar.
func DateOf(year int, month time.Month, day int) Date {
	return Date(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60))
}

func (d Date) String() string { return d.midnight().Format(time.DateOnly) }

func (d Date) weekday() time.Weekday { return d.midnight().Weekday() }

func (d Date) midnight() time.Time { return time.Unix(int64(d)*24*60*60, 0).UTC() }

// Contains tells whether t is in the window. An unknown time is in none.
func (w *Window) Contains(t time.Time) bool {
	if t.IsZero() {
		return false
	}
	local := t.In(w.Zone)
	minute, today := local.Hour()*60+local.Minute(), DateOf(local.Date())
	if w.From < w.To {
		return minute >= w.From && minute < w.To && w.on(today)
	}
	return minute >= w.From && w.on(today) || minute < w.To && w.on(today-1)
}

// on tells whether a span of the window begins on that day.
func (w *Window) on(d Date) bool {
	return w.Days[d.weekday()] && (len(w.Dates) == 0 || slices.ContainsFunc(w.Dates, func(s Dates) bool { return s.First <= d && d <= s.Last }))
}

// horizon is how many days that fit are looked at for an edge: days come back every week, and a change of the clock can take at most one.
const horizon = 16

// change finds the first moment after t at which the window is open (or, of open false, is not); ok is false where there is none.
//
// The wall's clock gets to an edge on a day, or is put past it: nothing else can open or shut a window.
func (w *Window) change(t time.Time, open bool) (at time.Time, ok bool) {
	local := t.In(w.Zone)
	today := DateOf(local.Date())
	spans := w.Dates
	if len(spans) == 0 {
		spans = []Dates{{today - 1, today + horizon}}
	}
	for _, s := range spans {
		first := max(s.First, today-1)
		// The day after the last is looked at too: a span that passes midnight ends on it.
		for d := first; d <= min(s.Last, first+horizon)+1; d++ {
			for _, edge := range w.edges(d) {
				if edge.After(t) && w.Contains(edge) == open && (!ok || edge.Before(at)) {
					at, ok = edge, true
				}
			}
			if ok && d > DateOf(at.In(w.Zone).Date()) {
				break
			}
		}
	}
	return at, ok
}

// edges are the moments around a day at which the window can open or shut: the wall's clock shows From or To, or is put to another time. No zone is
// further than 15 hours from UTC.
func (w *Window) edges(d Date) []time.Time {
	const reach = 15 * time.Hour
	var out []time.Time
	add := func(minute, offset int) {
		out = append(out, d.midnight().Add(time.Duration(minute)*time.Minute-time.Duration(offset)*time.Second))
	}
	for at, end := d.midnight().Add(-reach), d.midnight().Add(24*time.Hour+reach); ; {
		local := at.In(w.Zone)
		_, offset := local.Zone()
		add(w.From, offset)
		add(w.To, offset)
		_, next := local.ZoneBounds()
		if next.IsZero() || next.After(end) {
			return out
		}
		out = append(out, next)
		at = next
	}
}

// moment checks a rule's windows.
func (e *evaluation) moment(r *Rule) {
	if len(r.when)+len(r.notWhen) == 0 {
		return
	}
	now := e.facts.Now
	if len(r.when) > 0 {
		switch {
		case now.IsZero():
			e.fail(r.Line, Reason{OutsideWindow, fmt.Sprintf("the time is unknown, and rule %q holds in %s only", r.Name, words(r.When)), "report this to the site's operators"})
		case !inAny(r.when, now):
			e.fail(r.Line, Reason{OutsideWindow, fmt.Sprintf("it is %s, outside of %s, the time of rule %q", wall(now, r.when[0].Zone, now), words(r.When), r.Name), r.opens(now)})
		case e.trace != nil:
			e.pass(r.Line, "it is %s, in %s", wall(now, r.when[0].Zone, now), words(r.When))
		}
	}
	for _, w := range r.notWhen {
		switch {
		case now.IsZero():
			e.fail(r.Line, Reason{InsideWindow, fmt.Sprintf("the time is unknown, and rule %q does not hold in %s", r.Name, w.Name), "report this to the site's operators"})
		case w.Contains(now):
			e.fail(r.Line, Reason{InsideWindow, fmt.Sprintf("it is %s, in %s, when rule %q does not hold", wall(now, w.Zone, now), w.Name, r.Name), r.opens(now)})
		case e.trace != nil:
			e.pass(r.Line, "it is %s, not in %s", wall(now, w.Zone, now), w.Name)
		}
	}
}

func inAny(list []*Window, t time.Time) bool {
	return slices.ContainsFunc(list, func(w *Window) bool { return w.Contains(t) })
}

// maxEdges bounds the search for when a rule opens: its windows can shut each other out for ever.
const maxEdges = 200

// next finds the first moment after now at which a rule's windows let it hold, and the window that opens it.
func (r *Rule) next(now time.Time) (at time.Time, zone *time.Location, ok bool) {
	at = now
	for range maxEdges {
		var next time.Time
		found := false
		if i := slices.IndexFunc(r.notWhen, func(w *Window) bool { return w.Contains(at) }); i >= 0 {
			next, found = r.notWhen[i].change(at, false)
			zone = r.notWhen[i].Zone
		} else if len(r.when) > 0 && !inAny(r.when, at) {
			for _, w := range r.when {
				if t, opens := w.change(at, true); opens && (!found || t.Before(next)) {
					next, found, zone = t, true, w.Zone
				}
			}
		} else {
			return at, zone, true
		}
		if !found {
			return at, zone, false
		}
		at = next
	}
	return at, zone, false
}

// opens says when a rule holds again.
func (r *Rule) opens(now time.Time) string {
	at, zone, ok := r.next(now)
	if !ok {
		return "it does not open again"
	}
	return "opens " + wall(at, zone, now)
}

// wall is what a clock of the zone shows: with its date, where the weekday alone could be another week's.
func wall(t time.Time, zone *time.Location, now time.Time) string {
	layout := "Mon 15:04 "
	if t.Sub(now) > 6*24*time.Hour {
		layout = "Mon 2006-01-02 15:04 "
	}
	return t.In(zone).Format(layout) + zone.String()
}
