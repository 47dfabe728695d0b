package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

func newRequestsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "requests", Short: "List requests that wait for approvals (needs a pass: one touch in 15 minutes)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.pass(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Requests(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(api.RequestList{Requests: list})
			}
			if len(list) == 0 {
				a.term.Say("No request waits for approvals.")
				return nil
			}
			w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tasked\tperson\twhat\twhy\tneeds\tfrom\tyou")
			for _, r := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d of %d\t%s\t%s\n", clean(string(r.ID)), minutesLeft(r.Now.Sub(r.Opened)), clean(string(r.Person)),
					clean(what(&r)), clean(short(r.Reason, 40)), r.Waiting.Needed-r.Waiting.Given, r.Waiting.Needed, clean(places(r.From)), you(&r))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			a.term.Say("Next: breakglass approve ID (or deny ID)")
			return nil
		},
	}
}

func what(r *api.RequestState) string {
	s := string(r.Login) + "@" + string(r.Host)
	if r.Of != "" {
		s += ", longer (" + string(r.Of) + ")"
	}
	return s
}

func you(r *api.RequestState) string {
	if r.MayApprove {
		return "may approve"
	}
	return "–"
}

// places says where somebody asked from, as the CA knew it.
func places(list []ledger.UsedAddress) string {
	var out []string
	for _, u := range list {
		s := u.Address
		if u.Country == "" {
			s += " country unknown"
		} else {
			s += " " + u.Country
		}
		if u.Subdivision != "" {
			s += " (" + u.Subdivision + ")"
		}
		if u.ASN != 0 {
			s += fmt.Sprintf(" AS%d", u.ASN)
		}
		if u.Anonymous == "yes" {
			s += " anonymous"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func newApproveCmd(a *app) *cobra.Command {
	return a.verdictCmd("approve ID", "Let somebody in: your key signs exactly what they signed", statement.Approve)
}

func newDenyCmd(a *app) *cobra.Command {
	return a.verdictCmd("deny ID", "Say no to a request: it is shown and recorded; a yes of yours before is withdrawn", statement.Deny)
}

func (a *app) verdictCmd(use, short, verdict string) *cobra.Command {
	var comment string
	var reset bool
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		Long: short + ".\nInstead of a request, ID may be key:FINGERPRINT (a suspended key) or totp:PERSON (codes that are locked; with --reset: a device that is gone).",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := statement.CheckText(comment); err != nil {
				return usagef("comment: %w", err)
			}
			if liftPrefix(args[0]) {
				return a.lift(cmd.Context(), args[0], verdict, comment, reset)
			}
			return a.verdict(cmd.Context(), args[0], verdict, comment)
		},
	}
	c.Flags().StringVar(&comment, "comment", "", "why (recorded, and shown to the requester)")
	c.Flags().BoolVar(&reset, "reset", false, "with totp:PERSON: take the device away, for it is gone")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func (a *app) verdict(ctx context.Context, typed, verdict, comment string) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	reader, err := a.pass(ctx)
	if err != nil {
		return err
	}
	list, err := reader.Requests(ctx)
	if err != nil {
		return err
	}
	r, err := findRequest(list, typed)
	if err != nil {
		return err
	}
	shown, err := a.evidence(ctx, reader, r.ID)
	if err != nil {
		return err
	}
	a.render(shown)
	a.lastUse(ctx, reader, shown)
	ag, fido, err := a.agent(reader)
	if err != nil {
		return err
	}
	defer fido.Forget()
	s, err := ag.Verdict(ctx, api.ApprovalAsk{Person: string(who.Person), About: statement.AboutRequest, Of: string(r.ID), Hash: shown.Hash, Verdict: verdict, Comment: comment})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(s)
	}
	q := &shown.Request
	switch {
	case s.State == "allowed":
		a.term.Say("done. %s is in, until %s.", q.Person, s.Until.Local().Format("15:04"))
	case s.State == "denied" && verdict == statement.Deny:
		a.term.Say("done. Your no ends it: %s is denied.", r.ID)
	case s.State == "denied":
		a.term.Say("done, but the CA decided anew and denied it: %s", clean(s.Reasons[0].Detail))
	case verdict == statement.Deny:
		a.term.Say("done. %s is told; %d of %d approvals are there.", q.Person, s.Given, s.Needed)
	default:
		a.term.Say("done. %d of %d approvals are there; yours counts for %d minutes.", s.Given, s.Needed, int(statement.ApprovalCounts.Minutes()))
	}
	return nil
}

// findRequest takes a whole id or a prefix of one, with or without the dash. A whole id goes to the CA in any case: it says what became of that request.
func findRequest(list []api.RequestState, typed string) (*api.RequestState, error) {
	var found []*api.RequestState
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "") }
	for i := range list {
		if typed != "" && strings.HasPrefix(plain(string(list[i].ID)), plain(typed)) {
			found = append(found, &list[i])
		}
	}
	switch len(found) {
	case 0:
		return nil, withHint(fmt.Errorf("no request %q waits for approvals", typed), "breakglass requests")
	case 1:
		return found[0], nil
	}
	return nil, withHint(usagef("%q fits %d requests", typed, len(found)), "breakglass requests")
}

// evidence fetches a request's entries and proves them, against the history that this machine knows.
func (a *app) evidence(ctx context.Context, c *client.Client, id name.RequestID) (*agent.Shown, error) {
	e, err := c.Evidence(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := c.CheckCheckpoint(ctx, e.Checkpoint); err != nil {
		return nil, err
	}
	return agent.CheckEvidence(e, id, a.seen().Site)
}

// render shows what is about to be approved: out of the bytes that the requester signed, and what the CA decided on.
func (a *app) render(s *agent.Shown) {
	q := &s.Request
	forHow := "for as long as the rule gives"
	if q.Minutes > 0 {
		forHow = fmt.Sprintf("for %d min", q.Minutes)
	}
	again := ""
	if q.Request == statement.RequestExtend {
		again = " longer, " + forHow + " from now (grant " + string(q.Of) + ")"
		forHow = ""
	}
	a.term.Say("%s", clean(strings.TrimSpace(fmt.Sprintf("%s wants %s@%s%s %s: %q.", q.Person, q.Login, q.Host, again, forHow, q.Reason))))
	for _, x := range [][2]string{{"ticket", q.Ticket}, {"down, as declared", q.Failure}, {"severity", q.Severity}, {"forwards", strings.Join(q.Forwards, "; ")}} {
		if x[1] != "" {
			a.term.Say("  %-9s %s", x[0], clean(x[1]))
		}
	}
	drill := "no"
	if q.Drill != "" {
		drill = q.Drill
	}
	pin := "touch and PIN"
	if !s.UV {
		pin = "touch alone"
	}
	if s.Software {
		pin += ", a software key of the demo"
	}
	a.term.Say("  %-9s %s", "rule", clean(fmt.Sprintf("%q: %s (drill: %s)", s.Waits.Rule, s.Waits.Why, drill)))
	a.term.Say("  %-9s %s", "from", clean(places(s.Waits.Used.Addresses)))
	a.term.Say("  %-9s %s", "signed", clean(fmt.Sprintf("by %s's %s, %s; proved in the ledger", q.Person, s.Key, pin)))
	for _, w := range s.Waits.Used.Added {
		a.term.Say("  %-9s %s", "because", clean(strings.ReplaceAll(w, "_", " "))+" (an approval more)")
	}
	for _, g := range s.Approvals {
		word := "yes"
		if g.Verdict == statement.Deny {
			word = "no"
		}
		if g.Comment != "" {
			word += fmt.Sprintf(": %q", g.Comment)
		}
		a.term.Say("  %-9s %s", clean(string(g.Key.Person)), clean(word))
	}
	if o := s.Waits.Override; o != nil {
		a.term.Say("  %-9s %s may go on without approvals from %s", "override", q.Person, o.Local().Format("15:04"))
	}
}

// lastUse says when the person was there before: what is unusual stands out.
func (a *app) lastUse(ctx context.Context, c *client.Client, s *agent.Shown) {
	list, err := c.Sessions(ctx, "")
	if err != nil {
		return // it decides nothing
	}
	var last time.Time
	for _, x := range list {
		if x.Person == s.Request.Person && x.Host == s.Request.Host && x.Opened.After(last) {
			last = x.Opened
		}
	}
	when := "never"
	if !last.IsZero() {
		when = last.Local().Format("02 Jan 2006 15:04")
	}
	a.term.Say("  %-9s %s on %s: %s", "last use", s.Request.Person, s.Request.Host, when)
}
