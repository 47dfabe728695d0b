package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"breakglass/agent"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/internal/name"
)

// Warnings before an enrolment ends, in days: two weeks are time to fetch a key from where it is kept.
var warnDays = [...]int{14, 7, 1}

func newRenewCmd(a *app) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use: "renew", Short: "Show that each of your keys is still there (a touch of every one)",
		Long: `Renew asks every key of yours for a touch, one after the other. A touch holds for 7 days, so keys that are kept in two
places can be renewed in two places: run it in each. A key that is gone: breakglass lost KEY.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.renew(cmd.Context(), key) },
	}
	c.Flags().StringVar(&key, "key", "", "renew with that key alone")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

// ownKey is a key of the person's on this machine.
type ownKey struct {
	name        name.Key
	fingerprint string
}

func (a *app) ownKeys() (name.Person, []ownKey, error) {
	who, err := a.home.LoadPerson()
	if err != nil {
		return "", nil, err
	}
	var out []ownKey
	for _, k := range who.Keys {
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.PublicKey))
		if err != nil {
			return "", nil, fmt.Errorf("reading key %s: %w", k.Name, err)
		}
		out = append(out, ownKey{k.Name, ssh.FingerprintSHA256(pub)})
	}
	return who.Person, out, nil
}

func (a *app) renew(ctx context.Context, only string) error {
	person, todo, err := a.ownKeys()
	if err != nil {
		return err
	}
	if only != "" {
		if todo = slices.DeleteFunc(todo, func(k ownKey) bool { return string(k.name) != only }); len(todo) == 0 {
			return withStatus(exitUsage, fmt.Errorf("you have no key %q on this machine", only), "breakglass keys")
		}
	}
	if len(todo) == 0 {
		return withHint(errors.New("no key of yours is known on this machine"), "breakglass enroll TOKEN")
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return err
	}
	defer fido.Forget()
	var st *api.RenewalState
	var left error
	asked := map[string]bool{}
	for len(todo) > 0 {
		k := todo[0]
		todo, asked[k.fingerprint] = todo[1:], true
		a.term.Say("Key %s: plug it in.", k.name)
		got, err := a.prove(ctx, ag, person, k)
		if err != nil {
			var p *api.Problem
			if ctx.Err() != nil || errors.As(err, &p) {
				return err
			}
			a.term.Say("breakglass: warning: %s was not renewed: %v", k.name, clean(err.Error()))
			left = err
			continue
		}
		st = got
		for _, m := range st.Keys { // enrolled on another machine
			if m.Missing && only == "" && !asked[m.Fingerprint] && !slices.ContainsFunc(todo, func(k ownKey) bool { return k.fingerprint == m.Fingerprint }) {
				todo = append(todo, ownKey{m.Name, m.Fingerprint})
			}
		}
	}
	if st == nil {
		return left
	}
	if a.json {
		return a.printJSON(st)
	}
	return a.sayRenewed(st)
}

// prove asks one key, until it is there or the person gives up on it.
func (a *app) prove(ctx context.Context, ag *agent.Agent, person name.Person, k ownKey) (*api.RenewalState, error) {
	for {
		st, err := ag.Renew(ctx, person, k.fingerprint)
		if err == nil || statusOf(err) != exitKey || !a.term.Interactive() {
			return st, err
		}
		a.term.Say("breakglass: %s", clean(err.Error()))
		answer, askErr := a.term.Ask(ctx, fmt.Sprintf("Plug in %s and press Enter (or type skip): ", k.name))
		if errors.Is(askErr, terminal.ErrNobody) || answer == "skip" {
			return nil, err
		}
		if askErr != nil {
			return nil, askErr
		}
	}
}

func (a *app) sayRenewed(st *api.RenewalState) error {
	if !st.Renewed {
		a.term.Say("Not renewed yet. Missing:")
		for _, k := range st.Keys {
			if !k.Missing {
				continue
			}
			if k.State == "suspended" {
				a.term.Say("  %s (suspended: have that lifted first)", k.Name)
				continue
			}
			a.term.Say("  %s (last seen %s)", k.Name, k.Proved.Local().Format(time.DateOnly))
		}
		a.term.Say("Next: breakglass renew within 7 days, where that key is; or, if it is gone: breakglass lost KEY")
		a.status = exitKey
		return nil
	}
	if err := a.home.SaveRenewBy(st.Until); err != nil {
		a.term.Say("breakglass: warning: %v", err)
	}
	a.term.Say("Renewed until %s.", st.Until.Local().Format("Mon 2 Jan 2006"))
	for _, n := range st.Vouch {
		a.term.Say("%s was renewed too late: it counts once somebody vouches for it (breakglass vouch).", n)
	}
	return nil
}

// toldEnrolment remembers when the person has to renew, and warns of it ahead.
func (a *app) toldEnrolment(until time.Time) {
	if until.IsZero() {
		return
	}
	if err := a.home.SaveRenewBy(until); err != nil {
		a.term.Say("breakglass: warning: %v", err)
	}
	if text := renewWarning(until, time.Now()); text != "" {
		a.term.Say("breakglass: warning: %s. Next: breakglass renew", text)
	}
}

// renewWarning says what is to be said of an enrolment that ends then; "" is nothing.
func renewWarning(until, now time.Time) string {
	left := until.Sub(now)
	switch days := int(left.Hours() / 24); {
	case left <= 0:
		return fmt.Sprintf("your enrolment ended on %s: uses take an approval more, and end with the grace", until.Local().Format("2 Jan"))
	case days >= warnDays[0]:
		return ""
	case days < warnDays[2]:
		return fmt.Sprintf("YOUR ENROLMENT ENDS WITHIN A DAY, at %s", until.Local().Format("Mon 15:04"))
	case days < warnDays[1]:
		return fmt.Sprintf("your enrolment ends in %s, on %s: fetch your other key now", inDays(days), until.Local().Format("Mon 2 Jan"))
	default:
		return fmt.Sprintf("your enrolment ends in %s, on %s", inDays(days), until.Local().Format("Mon 2 Jan"))
	}
}

func inDays(n int) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
