package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/policy"
	"breakglass/review/replay"
)

const (
	// diffDays is how far back a diff looks: a quarter, which has seen the month's end and the year's.
	diffDays = 90
	// maxDays bounds --days.
	maxDays = 3650
)

func newPolicyDiffCmd(a *app) *cobra.Command {
	var db string
	var days int
	c := a.withDir(&cobra.Command{
		Use: "diff [OLD] NEW", Short: "Show what a changed policy would have decided otherwise", Args: cobra.RangeArgs(1, 2),
		Long: `Show what a changed policy changes: what stands in it otherwise, and which of the ledger's decisions of the last days it would have decided otherwise.

Each decision is made again from the facts in its entry, by both policies. OLD is the policy in force if it is left out. Nothing is written.`,
		Example: "  breakglass-ca policy diff new.toml\n  breakglass-ca policy diff old.toml new.toml --db ca.db --days 365",
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 1 || days > maxDays {
				return usagef("--days %d: want 1 to %d", days, maxDays)
			}
			now, err := parsePolicy(cmd, args[len(args)-1])
			if err != nil {
				return err
			}
			return a.withLedger(cmd.Context(), db, func(l *ledgerCopy) error {
				old, err := (*policy.Policy)(nil), error(nil)
				if len(args) == 2 {
					old, err = parsePolicy(cmd, args[0])
				} else {
					old, err = l.inForce()
				}
				if err != nil {
					return err
				}
				list, skipped, err := l.decisions(time.Now().Add(-time.Duration(days) * 24 * time.Hour))
				if err != nil {
					return err
				}
				return a.printDiff(&policyDiff{Days: days, Old: old.SHA256, New: now.SHA256, Decisions: len(list), Skipped: skipped,
					Changes: changesOf(old, now), Changed: changedBy(old, now, list)})
			})
		},
	})
	c.Flags().IntVar(&days, "days", diffDays, "how many days back")
	c.Flags().StringVar(&db, "db", "", "a copy of ca.db")
	return c
}

// policyDiff is what programs read of a diff.
type policyDiff struct {
	Days      int               `json:"days"`
	Old       string            `json:"old"`
	New       string            `json:"new"`
	Decisions int               `json:"decisions"`
	Skipped   int               `json:"skipped"` // entries that don't hold what was asked
	Changes   []string          `json:"changes"`
	Changed   []changedDecision `json:"changed"`
}

// changedDecision is a decision that comes out otherwise.
type changedDecision struct {
	Entry   int64     `json:"entry"`
	Time    time.Time `json:"time"`
	Type    string    `json:"type"`
	Person  string    `json:"person"`
	Target  string    `json:"target"`
	Old     string    `json:"old"`
	OldLine int       `json:"old_line,omitempty"`
	New     string    `json:"new"`
	NewLine int       `json:"new_line,omitempty"`
}

func changesOf(old, now *policy.Policy) []string {
	out := []string{}
	for _, c := range policy.Compare(old, now) {
		out = append(out, c.String())
	}
	return out
}

// changedBy decides by both and keeps what differs in anything but where it stands in the file.
func changedBy(old, now *policy.Policy, list []*replay.Decision) []changedDecision {
	out := []changedDecision{}
	for _, d := range list {
		was, is := d.Inquiry.Answer(old), d.Inquiry.Answer(now)
		x, y := verdict(was), verdict(is)
		if x == y {
			continue
		}
		_, oldLine := d.Inquiry.AnswerLines(old)
		_, newLine := d.Inquiry.AnswerLines(now)
		q := &d.Inquiry.Request
		out = append(out, changedDecision{d.Index, d.Time.UTC(), string(d.Type), string(q.Person), string(q.Login) + "@" + string(q.Host), x, oldLine, y, newLine})
	}
	return out
}

// verdict is what matters of a decision to the person who asked, on a line.
func verdict(d policy.Decision) string {
	if d.Outcome == policy.Deny {
		var codes []string
		for _, r := range d.Reasons {
			codes = append(codes, string(r.Code))
		}
		return "deny (" + strings.Join(codes, ", ") + ")"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d min by rule %q", d.Outcome, d.Minutes, d.Rule)
	switch {
	case d.Missing > 0:
		fmt.Fprintf(&b, ", %d of %s missing", d.Missing, count(d.Approvals, "approval"))
		if d.Override > 0 {
			fmt.Fprintf(&b, ", override after %s", d.Override)
		}
	case d.Approvals > 0:
		fmt.Fprintf(&b, ", %s", count(d.Approvals, "approval"))
	}
	if d.Overridden > 0 {
		fmt.Fprintf(&b, ", %d overridden", d.Overridden)
	}
	fmt.Fprintf(&b, ", idle %s", d.Idle)
	if !d.End.IsZero() {
		fmt.Fprintf(&b, ", until %s", d.End.UTC().Format("15:04:05Z"))
	}
	return b.String()
}

func (a *app) printDiff(d *policyDiff) error {
	if a.json {
		return a.printJSON(d)
	}
	fmt.Fprintf(a.stdout, "%.12s -> %.12s: %s\n", d.Old, d.New, count(len(d.Changes), "change"))
	for _, c := range d.Changes {
		fmt.Fprintln(a.stdout, fold("  "+clean(c), 4))
	}
	fmt.Fprintf(a.stdout, "%s of the last %d days made again, %d come out otherwise\n", count(d.Decisions, "decision"), d.Days, len(d.Changed))
	for _, g := range grouped(d.Changed) {
		last := g[len(g)-1]
		fmt.Fprintln(a.stdout, fold(fmt.Sprintf("  entry %d  %s  %s %s  (%s)", last.Entry, last.Time.Format("2006-01-02 15:04Z"), last.Person, last.Target, last.Type), 4))
		fmt.Fprintln(a.stdout, fold("    old  "+clean(last.Old)+atLine(last.OldLine), 9))
		fmt.Fprintln(a.stdout, fold("    new  "+clean(last.New)+atLine(last.NewLine), 9))
		if n := len(g) - 1; n > 0 {
			var before []string
			for _, x := range slices.Backward(g[:n]) {
				before = append(before, fmt.Sprint(x.Entry))
			}
			fmt.Fprintln(a.stdout, fold("    and  "+strings.Join(before, ", "), 9))
		}
	}
	if d.Skipped > 0 {
		a.say("%s can't be made again: older entries, and refusals that were not the policy's", count(d.Skipped, "decision"))
	}
	return nil
}

func atLine(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", n)
}

// grouped puts what changes alike for the same person and target together, the newest group last.
func grouped(list []changedDecision) [][]changedDecision {
	type key struct{ kind, person, target, old, new string }
	at := map[key]int{}
	var out [][]changedDecision
	for _, x := range list {
		k := key{x.Type, x.Person, x.Target, x.Old, x.New}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], x)
	}
	return out
}
