package policy

import (
	"fmt"
	"strings"
	"time"

	"breakglass/internal/bytesize"
)

// Explain tells a person each check that Decide makes, with the line of the file that makes it, and the decision. It
// is made by the evaluator itself as it runs.
func Explain(p *Policy, req Request, facts Facts) string {
	var b strings.Builder
	from := make([]string, len(facts.Sources))
	for i, s := range facts.Sources {
		from[i] = normalise(s.Addr).String()
	}
	fmt.Fprintf(&b, "%s asks for %s@%s from %s", req.Person, req.Login, req.Host, strings.Join(from, ", "))
	if req.Minutes > 0 {
		fmt.Fprintf(&b, " for %d min", req.Minutes)
	}
	if req.Drill {
		b.WriteString(" (drill)")
	}
	for _, extra := range [][2]string{{"ticket", req.Ticket}, {"failure", req.Failure}, {"severity", req.Severity}} {
		if extra[1] != "" {
			fmt.Fprintf(&b, ", %s %q", extra[0], extra[1])
		}
	}
	b.WriteString("\n")
	e := &evaluation{p: p, req: req, facts: facts, trace: func(line int, ok bool, text string) {
		mark, where := "no ", "          "
		if ok {
			mark = "yes"
		}
		if line > 0 {
			where = fmt.Sprintf("line %-5d", line)
		}
		fmt.Fprintf(&b, "  %s %s %s\n", where, mark, text)
	}}
	d := e.run()
	fmt.Fprintf(&b, "%s", d.Outcome)
	if d.Rule != "" {
		r, _ := p.Rule(d.Rule)
		if d.Outcome == Deny {
			fmt.Fprintf(&b, "; closest is rule %q (line %d)", d.Rule, r.Line)
		} else {
			fmt.Fprintf(&b, " by rule %q (line %d): %s", d.Rule, r.Line, d.Why)
		}
	}
	b.WriteString("\n")
	switch d.Outcome {
	case Allow:
		fmt.Fprintf(&b, "  %d min, idle limit %s, %s a session\n", d.Minutes, short(d.Idle), bytesize.Text(d.Budget))
	case Ask:
		fmt.Fprintf(&b, "  %d of %d approvals missing, from %s, within %s; then %d min\n", d.Missing, d.Approvals, words(d.Approvers), short(d.Wait), d.Minutes)
		if d.Override > 0 {
			fmt.Fprintf(&b, "  an override is possible %s after the request\n", short(d.Override))
		}
	}
	if len(d.WatchedBy) > 0 {
		fmt.Fprintf(&b, "  a session's input is held while nobody of %s watches it (%s)\n", strings.Join(d.WatchedBy, ", "), or(d.Observers))
	}
	if len(d.Added) > 0 {
		fmt.Fprintf(&b, "  approvals were added for: %s\n", words(d.Added))
	}
	if d.Overridden > 0 {
		fmt.Fprintf(&b, "  the override replaces %s\n", approvals(d.Overridden))
	}
	for _, r := range d.Reasons {
		fmt.Fprintf(&b, "  %s: %s\n", r.Code, r.Detail)
		if r.Next != "" {
			fmt.Fprintf(&b, "    %s\n", r.Next)
		}
	}
	return printableLines(b.String())
}

// short writes a duration as the file does: 30m, not 30m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// printableLines is printable, line by line: reasons and tickets are what somebody typed.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
