package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// liftPrefix says that what is typed names something to lift, and no request.
func liftPrefix(s string) bool { return strings.HasPrefix(s, "key:") || strings.HasPrefix(s, "totp:") }

func newKeysUnlockCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "unlock KEY", Short: "Lift the suspension of a key of mine, with another key of mine", Args: cobra.ExactArgs(1),
		Long: `A key is suspended when its counter went back, as a copied key's would. Lift it only if you know why that was (a reset, a restored device) and
have had the key with you all the time; else report it lost. Without another key of yours, two approvers can lift it: breakglass approve key:FINGERPRINT`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.lift(cmd.Context(), "key:"+args[0], statement.Approve, "", false)
		},
	}
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

// lift says yes or no to lifting a suspension, a lock of codes, or, with reset, to taking a device away that is gone. typed is key:NAME,
// key:FINGERPRINT (or a part of it) or totp:PERSON.
func (a *app) lift(ctx context.Context, typed, verdict, comment string, reset bool) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	reader, err := a.pass(ctx)
	if err != nil {
		return err
	}
	list, err := reader.Unlocks(ctx)
	if err != nil {
		return err
	}
	var found []api.Unlock
	for _, u := range list.Unlocks {
		what, rest, _ := strings.Cut(typed, ":")
		switch u.What {
		case api.UnlockKey:
			own := u.Person == who.Person && rest == string(u.Name)
			if what == "key" && rest != "" && (own || strings.HasPrefix(u.Of, rest) || strings.HasPrefix(u.Of, "SHA256:"+rest)) {
				found = append(found, u)
			}
		default:
			if what == "totp" && rest == string(u.Person) && reset == (u.What == api.UnlockDevice) {
				found = append(found, u)
			}
		}
	}
	switch {
	case len(found) > 1:
		return usagef("%q fits %d of them", typed, len(found))
	case len(found) == 0 && strings.HasPrefix(typed, "totp:") && !reset:
		return withHint(fmt.Errorf("no codes of %q are locked", strings.TrimPrefix(typed, "totp:")), "breakglass approve --reset "+typed+", if the device is gone")
	case len(found) == 0:
		return fmt.Errorf("nothing that is locked fits %q", typed)
	}
	u := found[0]
	a.renderUnlock(&u)
	ag, fido, err := a.agent(reader)
	if err != nil {
		return err
	}
	defer fido.Forget()
	s, err := ag.Verdict(ctx, api.ApprovalAsk{Person: string(who.Person), About: statement.AboutUnlock, Of: u.Of, Hash: ledger.EntryHash([]byte(u.Entry.Entry)),
		Verdict: verdict, Comment: comment})
	if err != nil {
		return err
	}
	switch {
	case a.json:
		return a.printJSON(s)
	case verdict == statement.Deny:
		a.term.Say("done. Your no is recorded.")
	case s.State == "unlocked" && u.What == api.UnlockDevice:
		a.term.Say("done. %s makes no codes for %s any more; next, by them: breakglass totp enroll", u.Name, u.Person)
	case s.State == "unlocked":
		a.term.Say("done. It is lifted.")
	default:
		a.term.Say("done. %d of %d approvals are there; yours counts for %d minutes.", s.Given, s.Needed, int(statement.ApprovalCounts.Minutes()))
	}
	return nil
}

// renderUnlock shows what is lifted, out of the entry that the approval signs: it is proved to be in the ledger.
func (a *app) renderUnlock(u *api.Unlock) {
	e, err := ledger.Decode([]byte(u.Entry.Entry))
	if err != nil {
		return
	}
	at := e.Time.Local().Format("02 Jan 2006 15:04:05")
	switch f := e.Facts.(type) {
	case *ledger.KeySuspended:
		a.term.Say("%s", clean(fmt.Sprintf("%s's key %s is suspended since %s: its counter came as %d after %d, as a copied key's would.", e.Subject.Person, u.Name, at, f.Seen, f.Accepted)))
		a.term.Say("  key       %s", clean(e.Subject.Key))
		a.term.Say("Hear from %s, by voice or face, that the key was with them all the time.", clean(string(e.Subject.Person)))
	case *ledger.TOTPLocked:
		a.term.Say("%s", clean(fmt.Sprintf("Codes of %s are locked since %s, until %s: %d were wrong, each with a touch of their key.", e.Subject.Person, at, f.Until.Local().Format("15:04"), f.Wrong)))
		a.term.Say("Hear from %s, by voice or face, that it was them.", clean(string(e.Subject.Person)))
	case *ledger.TOTPEnrolled:
		a.term.Say("%s", clean(fmt.Sprintf("%s makes the codes of %s since %s. With your yes it makes none any more, and %s enrols another with a touch alone.", f.Device, e.Subject.Person, at, e.Subject.Person)))
		a.term.Say("Hear from %s, by voice or face, that the device is gone.", clean(string(e.Subject.Person)))
	}
}
