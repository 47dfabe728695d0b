package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/internal/name"
	"breakglass/policy"
	"breakglass/review/replay"
)

// errDiffers says that a decision made again is another.
var errDiffers = errors.New("deciding again gives another answer")

// replayed is one decision made again, as programs read it.
type replayed struct {
	Entry   int64         `json:"entry"`
	Type    string        `json:"type"`
	Request string        `json:"request,omitempty"`
	Policy  string        `json:"policy"`
	Same    bool          `json:"same"`
	Entered replay.Answer `json:"entry_says"`
	Again   replay.Answer `json:"again"`
	Differs []string      `json:"differs,omitempty"`
}

func newPolicyReplayCmd(a *app) *cobra.Command {
	var db string
	c := a.withDir(&cobra.Command{
		Use: "replay ENTRY|REQUEST", Short: "Make a decision of the ledger again, and say whether it is the same", Args: cobra.ExactArgs(1),
		Long: `Make a decision of the ledger again, from the facts in its entry and by the policy that its entry names, and say whether it is the same.

ENTRY is an entry's number; of a request every decision is made again. The status is 1 if one comes out otherwise. It is read from the CA's own
database, or from a copy with --db. That the entries are those that were written, ` + "`breakglass-ca ledger verify`" + ` shows; it makes every decision again, too.`,
		Example: "  breakglass-ca policy replay k7f-2mq\n  breakglass-ca policy replay 1042 --db ca.db",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withLedger(cmd.Context(), db, func(l *ledgerCopy) error { return a.replay(l, args[0]) })
		},
	})
	c.Flags().StringVar(&db, "db", "", "a copy of ca.db")
	return c
}

func (a *app) replay(l *ledgerCopy, which string) error {
	condition, arg := `idx = $1`, any(nil)
	if n, err := strconv.ParseInt(which, 10, 64); err == nil && n >= 0 {
		arg = n
	} else if id, err := name.ParseRequestID(which); err == nil {
		condition, arg = `request = $1 AND `+decisionTypes, string(id)
	} else {
		return usagef("%q is neither an entry's number nor a request", which)
	}
	if err := l.readPolicies(); err != nil {
		return err
	}
	found, wrong := false, 0
	out := []replayed{}
	for idx, e := range l.where(condition, arg) {
		if e.err != nil {
			return e.err
		}
		d, err := replay.Of(idx, e.Entry)
		if d == nil && err == nil {
			continue
		}
		found = true
		if errors.Is(err, replay.ErrNotRecorded) {
			a.say("entry %d, %s: nothing to decide again: the refusal was not the policy's, or the entry is an old one", idx, e.Type())
			continue
		} else if err != nil {
			return err
		}
		p, err := l.policies.Policy(d.Policy)
		if err != nil {
			return fmt.Errorf("entry %d: %w", idx, err)
		}
		again, differs := d.Again(p)
		if err := l.readAsks(idx); err != nil {
			return err
		}
		differs = append(differs, l.asks.Differences(d, e.Entry)...)
		if len(differs) > 0 {
			wrong++
		}
		out = append(out, replayed{idx, string(d.Type), string(d.Subject.Request), d.Policy.String(), len(differs) == 0, d.Answer, again, differs})
		if !a.json {
			a.printReplay(d, again, differs)
		}
	}
	if !found {
		return withHint(fmt.Errorf("no decision is recorded under %s", which), "breakglass requests, or breakglass-ca policy diff, name requests that were decided")
	}
	if a.json {
		if err := a.printJSON(map[string]any{"decisions": out}); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return withHint(fmt.Errorf("%d of %s: %w", wrong, count(len(out), "decision"), errDiffers), "breakglass-ca ledger verify --trust PINS     shows whether the entry is the one that was written")
	}
	return nil
}

func (a *app) printReplay(d *replay.Decision, again replay.Answer, differs []string) {
	q := &d.Inquiry.Request
	fmt.Fprintf(a.stdout, "entry %d  %s  %s  %s for %s@%s\n", d.Index, d.Time.UTC().Format("2006-01-02 15:04:05Z"), d.Type, clean(string(q.Person)), q.Login, q.Host)
	fmt.Fprintf(a.stdout, "  policy  %.12s\n", d.Policy)
	if len(differs) == 0 {
		fmt.Fprintln(a.stdout, fold("  same    "+clean(answerText(again)), 10))
		return
	}
	fmt.Fprintln(a.stdout, fold("  entry   "+clean(answerText(d.Answer)), 10))
	fmt.Fprintln(a.stdout, fold("  again   "+clean(answerText(again)), 10))
	for _, s := range differs {
		fmt.Fprintln(a.stdout, fold("  differs "+clean(s), 10))
	}
}

// answerText is an answer in a line.
func answerText(x replay.Answer) string {
	var b strings.Builder
	b.WriteString(x.Outcome.String())
	if x.Outcome != policy.Deny && x.Minutes > 0 {
		fmt.Fprintf(&b, " %d min", x.Minutes)
	}
	if x.Rule != "" {
		fmt.Fprintf(&b, " by rule %q", x.Rule)
	}
	if x.Approvals > 0 {
		fmt.Fprintf(&b, ", %s wanted", count(x.Approvals, "approval"))
	}
	if x.Overridden > 0 {
		fmt.Fprintf(&b, ", %d overridden", x.Overridden)
	}
	if !x.Until.IsZero() {
		fmt.Fprintf(&b, ", until %s", x.Until.UTC().Format("15:04:05Z"))
	}
	if len(x.Reasons) > 0 {
		b.WriteString(" (" + strings.Join(x.Reasons, ", ") + ")")
	}
	return b.String()
}
