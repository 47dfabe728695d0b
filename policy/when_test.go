package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"breakglass/policy"
)

// timed is a policy whose one rule says this of the time; windows are entries of [windows].
func timed(t testing.TB, windows, rule string) *policy.Policy {
	t.Helper()
	p, err := policy.Load("t.toml", []byte(timedText(windows, rule)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func timedText(windows, rule string) string {
	return `profile = "demo"
` + windows + `
[site]
name = "t"
owners = ["alice"]
operators = ["alice"]
readers = ["alice"]
[people.alice]
[always]
anonymous = "allow"
[hosts.web01]
address = ["10.0.0.1:22"]
host_keys = ["` + keyLine + `"]
[[rule]]
name = "r"
why = "r"
who = ["alice"]
hosts = ["*"]
logins = ["root"]
minutes = 5
` + rule + "\n"
}

// enter asks at a time, which is unknown if it is "".
func enter(t testing.TB, p *policy.Policy, at string, changes ...change) policy.Decision {
	t.Helper()
	a := usual()
	a.facts.Now = time.Time{}
	if at != "" {
		var err error
		if a.facts.Now, err = time.Parse(time.RFC3339, at); err != nil {
			t.Fatal(err)
		}
	}
	a.facts.Live.Known = true
	for _, c := range changes {
		c(&a)
	}
	return policy.Decide(p, a.req, a.facts)
}

const (
	office = `[windows.w]
zone = "Europe/Berlin"
days = ["mon-fri"]
from = "08:00"
to = "18:00"`
	night = `[windows.w]
zone = "Europe/Berlin"
days = ["fri"]
from = "22:00"
to = "06:00"`
	gap = `[windows.w]
zone = "Europe/Berlin"
from = "02:15"
to = "02:45"`
	overGap = `[windows.w]
zone = "Europe/Berlin"
from = "02:30"
to = "05:00"`
	twice = `[windows.w]
zone = "Europe/Berlin"
from = "02:30"
to = "03:30"`
	wholeDay = `[windows.w]
zone = "Europe/Berlin"
days = ["sat"]
from = "00:00"
to = "24:00"`
	christmas = `[windows.w]
zone = "Europe/Berlin"
dates = ["2026-12-24..2026-12-26", "2027-01-01"]`
	newYear = `[windows.w]
zone = "America/New_York"
dates = ["2026-12-31"]
from = "20:00"
to = "02:00"`
	east = `[windows.w]
zone = "Pacific/Kiritimati"
days = ["mon"]`
	west = `[windows.w]
zone = "Pacific/Pago_Pago"
days = ["sun"]`
	skipped = `[windows.w]
zone = "Pacific/Apia"
days = ["fri"]`
)

func TestWindows(t *testing.T) {
	for _, c := range []struct {
		what, window, at string
		open             bool
		next             string // of one that is not: what is told
	}{
		{"office hours, at noon", office, "2026-11-25T12:00:00+01:00", true, ""},
		{"begin at their first minute", office, "2026-11-25T08:00:00+01:00", true, ""},
		{"not a second earlier", office, "2026-11-25T07:59:59+01:00", false, "opens Wed 08:00 Europe/Berlin"},
		{"and end before their last", office, "2026-11-25T17:59:59+01:00", true, ""},
		{"at 18:00 sharp", office, "2026-11-25T18:00:00+01:00", false, "opens Thu 08:00 Europe/Berlin"},
		{"there are none on Saturday", office, "2026-11-28T12:00:00+01:00", false, "opens Mon 08:00 Europe/Berlin"},
		{"in summer they are an hour earlier in UTC", office, "2026-07-01T06:00:00Z", true, ""},
		{"in winter not", office, "2026-11-25T06:00:00Z", false, "opens Wed 08:00 Europe/Berlin"},
		{"from Friday evening the next is told across the change of the clock", office, "2026-10-23T18:00:00+02:00", false, "opens Mon 08:00 Europe/Berlin"},

		{"a night begins on its day", night, "2026-11-27T22:00:00+01:00", true, ""},
		{"and reaches into the next", night, "2026-11-28T05:59:59+01:00", true, ""},
		{"to its end", night, "2026-11-28T06:00:00+01:00", false, "opens Fri 2026-12-04 22:00 Europe/Berlin"},
		{"the morning of its own day belongs to the day before", night, "2026-11-27T05:00:00+01:00", false, "opens Fri 22:00 Europe/Berlin"},

		{"a time that doesn't exist is in no window", gap, "2026-03-29T03:00:00+02:00", false, "opens Mon 02:15 Europe/Berlin"},
		{"nor is the moment before", gap, "2026-03-29T01:59:59+01:00", false, "opens Mon 02:15 Europe/Berlin"},
		{"on other days it is there", gap, "2026-03-28T02:30:00+01:00", true, ""},
		{"a window over the gap opens where the clock goes on", overGap, "2026-03-29T03:00:00+02:00", true, ""},
		{"and that is told", overGap, "2026-03-29T01:30:00+01:00", false, "opens Sun 03:00 Europe/Berlin"},
		{"a time that exists twice is in it the first time", twice, "2026-10-25T02:45:00+02:00", true, ""},
		{"between them it is not", twice, "2026-10-25T02:00:00+01:00", false, "opens Sun 02:30 Europe/Berlin"},
		{"the last moment before the clock is put back", twice, "2026-10-25T02:59:59+02:00", true, ""},
		{"the second time it is", twice, "2026-10-25T02:30:00+01:00", true, ""},
		{"and it ends once, by the second clock", twice, "2026-10-25T03:30:00+01:00", false, "opens Mon 02:30 Europe/Berlin"},

		{"a day begins at midnight", wholeDay, "2026-11-28T00:00:00+01:00", true, ""},
		{"and lasts to its end", wholeDay, "2026-11-28T23:59:59+01:00", true, ""},
		{"which is not the next day", wholeDay, "2026-11-29T00:00:00+01:00", false, "opens Sat 00:00 Europe/Berlin"},
		{"a day of 23 hours", wholeDay, "2026-11-27T23:59:59+01:00", false, "opens Sat 00:00 Europe/Berlin"},

		{"holidays begin with their first day", christmas, "2026-12-24T00:00:00+01:00", true, ""},
		{"which in UTC is the day before", christmas, "2026-12-23T23:00:00Z", true, ""},
		{"and end with their last", christmas, "2026-12-27T00:00:00+01:00", false, "opens Fri 00:00 Europe/Berlin"},
		{"from far away with the date", christmas, "2026-11-25T00:00:00+01:00", false, "opens Thu 2026-12-24 00:00 Europe/Berlin"},
		{"once they are over there are no more", christmas, "2027-01-02T00:00:00+01:00", false, "it does not open again"},
		{"a night across the year's end begins in the old year", newYear, "2026-12-31T20:00:00-05:00", true, ""},
		{"ends in the new one", newYear, "2027-01-01T01:59:59-05:00", true, ""},
		{"and is there once", newYear, "2027-01-01T02:00:00-05:00", false, "it does not open again"},

		{"14 hours east of UTC Monday begins on Sunday", east, "2026-11-22T10:00:00Z", true, ""},
		{"not earlier", east, "2026-11-22T09:59:59Z", false, "opens Mon 00:00 Pacific/Kiritimati"},
		{"11 hours west of it Sunday ends on Monday", west, "2026-11-23T10:59:59Z", true, ""},
		{"not later", west, "2026-11-23T11:00:00Z", false, "opens Sun 00:00 Pacific/Pago_Pago"},
		{"a day that a zone left out never was", skipped, "2011-12-30T10:00:00Z", false, "opens Fri 00:00 Pacific/Apia"},
		{"the one before was", skipped, "2011-12-23T22:00:00Z", true, ""},
		{"from its end the next is two weeks off", skipped, "2011-12-24T10:00:00Z", false, "opens Fri 2012-01-06 00:00 Pacific/Apia"},

		{"an unknown time is in no window", office, "", false, "report this to the site's operators"},
	} {
		d := enter(t, timed(t, c.window, `when = ["w"]`), c.at)
		if open := d.Outcome == policy.Allow; open != c.open {
			t.Errorf("%s: at %s: %s %v", c.what, c.at, d.Outcome, d.Reasons)
			continue
		}
		if !c.open && (len(d.Reasons) != 1 || d.Reasons[0].Code != policy.OutsideWindow || d.Reasons[0].Next != c.next) {
			t.Errorf("%s: at %s: %+v", c.what, c.at, d.Reasons)
		}
		if c.at == "" {
			continue
		}
		// not_when is the other way round.
		d = enter(t, timed(t, c.window, `not_when = ["w"]`), c.at)
		if d.Outcome == policy.Allow == c.open || c.open && d.Reasons[0].Code != policy.InsideWindow {
			t.Errorf("%s: not_when at %s: %s %v", c.what, c.at, d.Outcome, d.Reasons)
		}
	}
	d := enter(t, timed(t, office, `not_when = ["w"]`), "")
	if d.Outcome != policy.Deny || d.Reasons[0].Code != policy.InsideWindow {
		t.Errorf("an unknown time could be in not_when: %s %v", d.Outcome, d.Reasons)
	}
}

func TestWhenAndNotWhen(t *testing.T) {
	const both = office + `
[windows.holidays]
zone = "Europe/Berlin"
dates = ["2026-12-24..2026-12-26", "2026-12-31"]
[windows.freeze]
zone = "Europe/London"
dates = ["2026-12-23"]
from = "12:00"
to = "24:00"
[windows.rest]
zone = "UTC"
days = ["sat,sun"]
from = "10:00"
to = "12:00"`
	for _, c := range []struct{ what, rule, at, next string }{
		{"in office hours", `when = ["w"]`, "2026-12-23T12:00:00+01:00", ""},
		{"one of two windows is enough", `when = ["w", "rest"]`, "2026-12-26T10:00:00Z", ""},
		{"in neither, the sooner one is told", `when = ["w", "rest"]`, "2026-12-25T18:00:00+01:00", "opens Sat 10:00 UTC"},
		{"what it opens into must not be shut", "when = [\"w\"]\nnot_when = [\"holidays\"]", "2026-12-24T12:00:00+01:00", "opens Mon 08:00 Europe/Berlin"},
		{"nor by one after the other", "when = [\"w\"]\nnot_when = [\"freeze\", \"holidays\"]", "2026-12-23T18:30:00+01:00", "opens Mon 08:00 Europe/Berlin"},
		{"not_when alone ends with its end", `not_when = ["holidays"]`, "2026-12-31T12:00:00+01:00", "opens Fri 00:00 Europe/Berlin"},
		{"windows that shut each other out", "when = [\"w\"]\nnot_when = [\"w\"]", "2026-12-23T12:00:00+01:00", "it does not open again"},
	} {
		d := enter(t, timed(t, both, c.rule), c.at)
		switch {
		case c.next == "" && d.Outcome != policy.Allow, c.next != "" && (d.Outcome != policy.Deny || d.Reasons[0].Next != c.next):
			t.Errorf("%s: %s %+v", c.what, d.Outcome, d.Reasons)
		}
	}
}

// TestOpensIsTrue: what a reason tells of when a rule opens is the first moment at which it does, whatever the zone and the hour.
func TestOpensIsTrue(t *testing.T) {
	zones := []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham", "America/St_Johns", "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia"}
	hours := [][2]string{{"00:00", "24:00"}, {"02:00", "03:00"}, {"01:45", "02:15"}, {"23:00", "01:30"}, {"18:00", "03:00"}, {"00:00", "00:15"}, {"23:45", "00:00"}}
	opened := 0
	for i, zone := range zones {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for j, h := range hours {
			for _, days := range []string{`["sat-sun"]`, `["mon,wed", "sat"]`} {
				p := timed(t, fmt.Sprintf("[windows.w]\nzone = %q\ndays = %s\nfrom = %q\nto = %q", zone, days, h[0], h[1]), `when = ["w"]`)
				begin := []time.Time{time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 4, 0, 0, 0, 0, time.UTC)}[(i+j)%3]
				told := "" // since when: what was told while it was shut
				for at := begin; at.Before(begin.Add(5 * 24 * time.Hour)); at = at.Add(15 * time.Minute) {
					a := usual()
					a.facts.Now, a.facts.Live.Known = at, true
					d := policy.Decide(p, a.req, a.facts)
					if d.Outcome == policy.Allow {
						if want := "opens " + at.In(loc).Format("Mon 15:04 ") + zone; told != "" && told != want {
							t.Fatalf("%s %s %v: told %q, and it opened %q", zone, days, h, told, want)
						} else if told != "" {
							opened++
						}
						told = ""
						continue
					}
					next := d.Reasons[0].Next
					if told != "" && next != told && !strings.Contains(told, " 20") {
						t.Fatalf("%s %s %v: at %s it tells %q, and before %q", zone, days, h, at, next, told)
					}
					told = next
				}
			}
		}
	}
	if opened < 100 {
		t.Fatalf("only %d openings: no test", opened)
	}
}

func TestWindowFaults(t *testing.T) {
	zone := "[windows.w]\nzone = \"UTC\"\n"
	for _, c := range []struct{ what, window, rule, want string }{
		{"a zone that is none", "[windows.w]\nzone = \"Europe/Berln\"\ndays = [\"mon\"]", "", `unknown zone "Europe/Berln"`},
		{"the machine's own zone", "[windows.w]\nzone = \"Local\"\ndays = [\"mon\"]", "", `unknown zone "Local"`},
		{"no zone", "[windows.w]\ndays = [\"mon\"]", "", "has no zone"},
		{"a day that is none", zone + `days = ["mon-fry"]`, "", `unknown day "fry"`},
		{"no days", zone + `days = []`, "", "an empty list of days"},
		{"one end", zone + `from = "08:00"`, "", "has one end"},
		{"no length", zone + "from = \"08:00\"\nto = \"08:00\"", "", "begins and ends at 08:00"},
		{"a beginning at the day's end", zone + "from = \"24:00\"\nto = \"08:00\"", "", `from = "24:00"`},
		{"an end after it", zone + "from = \"08:00\"\nto = \"24:01\"", "", `to = "24:01"`},
		{"an hour of one digit", zone + "from = \"8:00\"\nto = \"18:00\"", "", `from = "8:00"`},
		{"a minute too many", zone + "from = \"08:60\"\nto = \"18:00\"", "", `from = "08:60"`},
		{"a date that is none", zone + `dates = ["2026-02-29"]`, "", `"2026-02-29" is no date`},
		{"dates the wrong way round", zone + `dates = ["2026-12-26..2026-12-24"]`, "", "ends before it begins"},
		{"a year too many", zone + `dates = ["2026-12-24..2028-12-26"]`, "", "longer than a year"},
		{"no dates", zone + `dates = []`, "", "an empty list of dates"},
		{"always", zone, "", "is always open"},
		{"a window that isn't there", zone + `days = ["mon"]`, `when = ["x"]`, `unknown window "x"`},
		{"no window", zone + `days = ["mon"]`, `not_when = []`, "an empty list of windows"},
		{"a key that is none", zone + "days = [\"mon\"]\nuntil = \"08:00\"", "", "until"},
	} {
		_, err := policy.Load("t.toml", []byte(timedText(c.window, c.rule)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}
