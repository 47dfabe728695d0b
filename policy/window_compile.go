package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"breakglass/internal/name"
	"breakglass/policy/zone"
)

const (
	maxWindows     = 200 // of a policy
	maxWindowDates = 200 // of a window; a year's public holidays of every German state are below it
	maxWindowSpan  = 366 // days of one entry of dates: a longer one is a slip in the year
)

var dayNames = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (c *compiler) windows(f *file) {
	c.p.Windows = map[name.Window]*Window{}
	if len(f.Windows) > maxWindows {
		c.key([]string{"windows"}, "", "more than %d windows", maxWindows)
	}
	for _, key := range sortedKeys(f.Windows) {
		path := []string{"windows", key}
		n, err := name.ParseWindow(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		in := f.Windows[key]
		at := func(k string) []string { return append(slices.Clone(path), k) }
		w := &Window{Name: n, Line: c.line(path...)}
		w.Zone = c.zoneOf(in.Zone, at("zone"), n)
		w.Days = c.days(in.Days, at("days"))
		w.Dates = c.dates(in.Dates, at("dates"))
		w.To = dayMinutes
		from, to := c.ix.has(at("from")...), c.ix.has(at("to")...)
		if from != to {
			c.key(path, "write both from and to, or neither for whole days", "window %q has one end", n)
		}
		if from && to {
			var fromOK, toOK bool
			w.From, fromOK = c.clock(in.From, at("from"), false)
			w.To, toOK = c.clock(in.To, at("to"), true)
			if fromOK && toOK && w.From == w.To {
				c.at(at("to"), `the whole day is from = "00:00", to = "24:00"`, "window %q begins and ends at %s", n, in.From)
			}
		}
		if !from && !to && !c.ix.has(at("days")...) && !c.ix.has(at("dates")...) {
			c.key(path, "write days, dates, or from and to", "window %q is always open", n)
		}
		c.p.Windows[n] = w
	}
}

// zoneOf reads a zone of the IANA database. "Local" is the machine's, and UTC offsets know no summer.
func (c *compiler) zoneOf(s string, path []string, w name.Window) *time.Location {
	if s == "" {
		c.at(path, `write zone = "Europe/Berlin", or "UTC"`, "window %q has no zone", w)
		return time.UTC
	}
	if z, err := zone.Load(s); err == nil {
		return z
	}
	c.at(path, `a name of the IANA time zone database, like "Europe/Berlin", or "UTC"`, "unknown zone %q", s)
	return time.UTC
}

// days reads "mon-fri", "sat" and "mon,wed".
func (c *compiler) days(list, path []string) (out [7]bool) {
	if !c.ix.has(path...) {
		return [7]bool{true, true, true, true, true, true, true}
	}
	if len(list) == 0 {
		c.at(path, "leave the key out for every day", "an empty list of days")
	}
	const hint = `write them like "mon-fri" or "sat"`
	day := func(s string, path []string) int {
		d := slices.Index(dayNames[:], strings.TrimSpace(s))
		if d < 0 {
			c.at(path, hint, "unknown day %q", s)
		}
		return d
	}
	for i, entry := range list {
		for s := range strings.SplitSeq(entry, ",") {
			first, last, isRange := strings.Cut(s, "-")
			a := day(first, element(path, i))
			if !isRange {
				last = first
			}
			b := a
			if isRange {
				b = day(last, element(path, i))
			}
			if a < 0 || b < 0 {
				continue
			}
			for d := a; ; d = (d + 1) % 7 { // "sat-mon" goes on past the week's end
				out[d] = true
				if d == b {
					break
				}
			}
		}
	}
	return out
}

// clock reads "08:00" as minutes.
func (c *compiler) clock(s string, path []string, end bool) (int, bool) {
	h, m, ok := strings.Cut(s, ":")
	hour, errH := strconv.ParseUint(h, 10, 8)
	minute, errM := strconv.ParseUint(m, 10, 8)
	n := int(hour*60 + minute)
	if !ok || len(h) != 2 || len(m) != 2 || errH != nil || errM != nil || minute > 59 || n > dayMinutes || n == dayMinutes && !end {
		hint := `write it like "08:00"`
		if end {
			hint += `; the day's end is "24:00"`
		}
		c.at(path, hint, "%s = %q", path[len(path)-1], s)
		return 0, false
	}
	return n, true
}

// dates reads "2026-12-24" and "2026-12-24..2026-12-26".
func (c *compiler) dates(list, path []string) []Dates {
	if c.ix.has(path...) && len(list) == 0 {
		c.at(path, "leave the key out for every date", "an empty list of dates")
	}
	if len(list) > maxWindowDates {
		c.at(path, "", "more than %d dates", maxWindowDates)
	}
	var out []Dates
	for i, s := range list {
		first, last, isRange := strings.Cut(s, "..")
		if !isRange {
			last = first
		}
		a, errA := parseDate(first)
		b, errB := parseDate(last)
		switch {
		case errA != nil || errB != nil:
			c.at(element(path, i), `write it like "2026-12-24" or "2026-12-24..2026-12-26"`, "%q is no date", s)
		case b < a:
			c.at(element(path, i), fmt.Sprintf("write %q", last+".."+first), "%q ends before it begins", s)
		case b-a >= maxWindowSpan:
			c.at(element(path, i), "", "%q is longer than a year", s)
		default:
			out = append(out, Dates{a, b})
		}
	}
	slices.SortFunc(out, func(x, y Dates) int { return int(x.First - y.First) })
	return out
}

func parseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, err
	}
	return DateOf(t.Date()), nil
}

// windowNames resolves a rule's windows.
func (c *compiler) windowNames(list, path []string) (names []name.Window, windows []*Window) {
	if c.ix.has(path...) && len(list) == 0 {
		c.at(path, "leave the key out for any time", "an empty list of windows")
	}
	for i, s := range list {
		w := c.p.Windows[name.Window(s)]
		if w == nil {
			c.at(element(path, i), suggest(s, sortedKeys(c.p.Windows)), "unknown window %q", s)
			continue
		}
		names, windows = append(names, w.Name), append(windows, w)
	}
	return names, windows
}

// never tells whether no moment is in the window: the days and dates have none in common, or each falls to a change of the clock.
func (w *Window) never() bool {
	if len(w.Dates) == 0 {
		return w.Days == [7]bool{}
	}
	_, opens := w.change((w.Dates[0].First - 2).midnight(), true)
	return !opens
}
