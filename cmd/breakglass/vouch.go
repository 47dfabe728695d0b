package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

func newVouchCmd(a *app) *cobra.Command {
	var o vouchOptions
	c := &cobra.Command{
		Use: "vouch [PERSON [KEY]]", Short: "Stand for somebody's new key, over its fingerprint read aloud; without PERSON: list those that wait",
		Long: `A new key counts once another key of its person, or two other people, have vouched for it; three, where all keys of a
person are lost and no code came with the new one. Then it cools off for the policy's time.
Call its holder on a line that you know is theirs. They read the fingerprint that ` + "`breakglass keys`" + ` shows; you type its last 8 characters.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := statement.CheckText(o.comment); err != nil {
				return usagef("comment: %w", err)
			}
			return a.vouch(cmd.Context(), args, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.heard, "heard", "", "the last 8 characters of the fingerprint, as its holder read them to you; asked for where it is missing")
	f.BoolVar(&o.deny, "deny", false, "say no instead: it is shown to whoever is asked next, and recorded")
	f.StringVar(&o.comment, "comment", "", "why (recorded)")
	f.BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

type vouchOptions struct {
	heard, comment string
	deny           bool
}

// unvouched is a key that waits, as its entry proves it and as the CA lists it.
type unvouched struct {
	*agent.NewKey
	listed api.Enrolment
}

func (a *app) vouch(ctx context.Context, args []string, o vouchOptions) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	reader, err := a.pass(ctx)
	if err != nil {
		return err
	}
	list, err := reader.Enrolments(ctx)
	if err != nil {
		return err
	}
	proved, err := agent.CheckEnrolments(list, a.seen().Site)
	if err != nil {
		return err
	}
	var keys []unvouched
	for i, k := range proved {
		keys = append(keys, unvouched{k, list.Enrolments[i]})
	}
	if len(args) == 0 {
		return a.listWaiting(list, keys)
	}
	k, err := pick(keys, args)
	if err != nil {
		return err
	}
	a.showWaiting(k)
	verdict := statement.Deny
	if !o.deny {
		verdict = statement.Approve
		if err := a.heard(ctx, k, o.heard); err != nil {
			return err
		}
	}
	ag, fido, err := a.agent(reader)
	if err != nil {
		return err
	}
	defer fido.Forget()
	s, err := ag.Verdict(ctx, api.ApprovalAsk{Person: string(who.Person), About: statement.AboutEnrolment, Of: k.ID, Hash: k.Signed, Verdict: verdict, Comment: o.comment})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(s)
	}
	switch {
	case o.deny:
		a.term.Say("done. Your no is recorded, and shown to whoever is asked to vouch for it.")
		a.term.Say("If the key is a fraud: an operator revokes it, or %s does: breakglass lost %s", k.Person, k.Key)
	case s.State == "vouched":
		a.term.Say("done. %s's %s counts from %s on.", k.Person, k.Key, s.CountsFrom.Local().Format("Mon 2 Jan 15:04"))
	default:
		a.term.Say("done. %d of %d people have vouched for it; yours counts for %d hours.", s.Given, s.Needed, int(statement.VouchCounts.Hours()))
	}
	return nil
}

func (a *app) listWaiting(list *api.EnrolmentList, keys []unvouched) error {
	if a.json {
		return a.printJSON(list)
	}
	if len(keys) == 0 {
		a.term.Say("No key waits for being vouched for.")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "person\tkey\tenrolled\tmodel\tends in\tvouched for by\tneeds")
	for _, k := range keys {
		needs := fmt.Sprintf("%d people, or %s's other key", k.listed.Needed, k.Person)
		if k.listed.Recovery {
			needs = fmt.Sprintf("%d people: all keys were lost", k.listed.Needed)
		}
		if !k.listed.CountsFrom.IsZero() {
			needs = "cools off until " + k.listed.CountsFrom.Local().Format("Mon 15:04")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Person, k.Key, k.Enrolled.Local().Format(time.DateTime), clean(model(k.NewKey)), k.Tail(), orDash(joined(k.listed.By)), needs)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	a.term.Say("Next: breakglass vouch PERSON KEY")
	return nil
}

func model(k *agent.NewKey) string {
	if k.Model == "" {
		return "a software key"
	}
	return k.Model
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func joined(list []name.Person) string {
	var out []string
	for _, p := range list {
		out = append(out, string(p))
	}
	return strings.Join(out, ", ")
}

// pick finds the one key that was meant.
func pick(keys []unvouched, args []string) (unvouched, error) {
	var found []unvouched
	for _, k := range keys {
		if string(k.Person) == args[0] && (len(args) == 1 || string(k.Key) == args[1]) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return unvouched{}, withStatus(exitFailed, fmt.Errorf("no key of %q waits", strings.Join(args, " ")), "breakglass vouch (lists those that wait)")
	}
	var hints []string
	for _, k := range found {
		hints = append(hints, fmt.Sprintf("breakglass vouch %s %s", k.Person, k.Key))
	}
	return unvouched{}, withStatus(exitUsage, fmt.Errorf("%d keys of %s wait", len(found), args[0]), hints...)
}

// showWaiting is what the voucher reads before they sign; the end of the fingerprint is not among it, for it has to come from its holder.
func (a *app) showWaiting(k unvouched) {
	a.term.Say("%s enrolled the key %q at %s.", k.Person, k.Key, k.Enrolled.Local().Format(time.DateTime))
	by := "a touch and PIN"
	if !k.UV {
		by = "a touch, without PIN"
	}
	a.term.Say("It is %s, and signed its own enrolment with %s.", clean(model(k.NewKey)), by)
	if k.Recovery || k.listed.Recovery {
		a.term.Say("THIS IS A RECOVERY: every other key of %s is gone. Be sure that it is them: see them, or hear them.", k.Person)
	}
	if k.listed.Again {
		a.term.Say("It counted before, and was renewed too late.")
	}
	for _, s := range k.listed.Said {
		word := "vouched for it"
		if s.Verdict == statement.Deny {
			word = "SAID NO"
		}
		a.term.Say("%s %s at %s. %s", s.Person, word, s.At.Local().Format(time.DateTime), clean(s.Comment))
	}
}

// heard has the voucher give the end of the fingerprint as its holder read it to them.
func (a *app) heard(ctx context.Context, k unvouched, typed string) error {
	if typed == "" {
		a.term.Say("Have %s read you the fingerprint of %s, on a line that you know is theirs: breakglass keys shows it to them.", k.Person, k.Key)
		var err error
		typed, err = a.term.Ask(ctx, fmt.Sprintf("Its last %d characters: ", agent.TailLength))
		if errors.Is(err, terminal.ErrNobody) {
			return withStatus(exitUsage, errors.New("the fingerprint has to be compared, and there is no terminal to ask for it on"), "breakglass vouch --heard XXXXXXXX "+string(k.Person)+" "+string(k.Key))
		}
		if err != nil {
			return err
		}
	}
	if strings.TrimSpace(typed) != k.Tail() {
		return withStatus(exitDenied, fmt.Errorf("that is not how the key's fingerprint ends: nothing was signed"),
			"have it read once more, letter by letter; upper and lower case differ", fmt.Sprintf("if it stays another: breakglass vouch --deny %s %s", k.Person, k.Key))
	}
	return nil
}

// keyNamed finds one of the person's keys by its name.
func keyNamed(list *api.KeyList, n string) (api.KeyStanding, bool) {
	i := slices.IndexFunc(list.Keys, func(k api.KeyStanding) bool { return string(k.Name) == n })
	if i < 0 {
		return api.KeyStanding{}, false
	}
	return list.Keys[i], true
}
