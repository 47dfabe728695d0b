package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent"
	"breakglass/agent/home"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/cmd/person"
)

func newSucceedCmd(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "succeed", Short: "As a founder: sign that a new CA follows the one that is lost (one touch)", Args: cobra.NoArgs,
		Long: `When a CA is lost and can't be restored, its operator makes another with the standby keys, which everybody trusts already. It opens once two of the
founders (all, where there are fewer) signed that it follows the lost one.

Succeed proves first that the new CA knows the history this machine has seen, and shows what goes on: the policy, and whose keys.
For everybody else, and once it stands, there is nothing to do: the next command takes it over, and says so.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.succeed(cmd.Context(), yes) },
	}
	c.Flags().BoolVar(&yes, "yes", false, "don't ask once more before signing")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func (a *app) succeed(ctx context.Context, yes bool) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	s, c, err := a.self().Succession(ctx)
	if err != nil {
		return err
	}
	if s.Entry != nil {
		return a.takeOver(ctx)
	}
	if err := agent.CheckOffer(s); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, clean(s.Offer.Policy))
	w := tabwriter.NewWriter(a.stderr, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "person\twhat goes on")
	for _, o := range s.Offer.Carried {
		what := "reads transcripts"
		if o.Key != nil {
			what = "key " + string(o.Key.Name)
		}
		fmt.Fprintf(w, "%s\t%s\n", o.Person, what)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, m := range s.Offer.Missing {
		a.term.Say("  goes not on   %s", clean(m))
	}
	a.term.Say("%s follows %s, whose last head has %d entries; this machine has seen %d.", clean(s.Facts.Site.Origin), clean(s.Facts.Old.Origin), entriesOf(s), c.Newest().Size)
	a.term.Say("Founders: %s. Signed so far: %s; it takes %d.", joined(s.Offer.Owners), orDash(joined(client.Founders(s))), s.Offer.Needed)
	if !yes {
		answer, err := a.term.Ask(ctx, "Is the old CA lost for good, and is this the new one? Type yes: ")
		if errors.Is(err, terminal.ErrNobody) {
			return withStatus(exitUsage, errors.New("no terminal to ask on"), "breakglass succeed --yes")
		}
		if err != nil {
			return err
		}
		if answer != "yes" {
			return withStatus(exitFailed, errors.New("nothing was signed"))
		}
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return err
	}
	defer fido.Forget()
	after, err := ag.Succeed(ctx, c, who.Person, s)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(after.Facts)
	}
	if n := s.Offer.Needed - len(after.Facts.Signed); n > 0 {
		a.term.Say("Signed. %d more has to.", n)
		return nil
	}
	a.term.Say("Signed. That is enough: the new CA opens.")
	return nil
}

func entriesOf(s *api.Succession) int64 {
	head, err := s.Facts.Check()
	if err != nil && head.Size == 0 {
		return 0
	}
	return head.Size
}

// takeOver pins what follows the pinned ledger, loudly.
func (a *app) takeOver(ctx context.Context) error {
	s, err := a.self().Succeed(ctx)
	switch {
	case errors.Is(err, person.ErrUnsigned):
		return withStatus(exitFailed, err, "each founder: breakglass succeed")
	case errors.Is(err, client.ErrSuccession):
		return withStatus(exitDenied, err, "call an operator on another line: somebody answers in the CA's place, or follows an older copy of it", "nothing was changed on this machine")
	case err != nil:
		return err
	}
	a.term.Say("breakglass: warning: THE CA WAS REPLACED. %s is lost; %s follows it.", clean(s.Facts.Old.Origin), clean(s.Facts.Site.Origin))
	a.term.Say("breakglass: warning: signed by %s, with keys of the ledger that this machine knew; it continues what was seen here.", joined(client.Founders(s)))
	a.term.Say("breakglass: warning: the old pins are kept in %s", a.home.Path(fmt.Sprintf("pins.epoch-%d", s.Facts.Old.Epoch)))
	// What the background process holds are grants and a pass of the lost CA, which nobody takes any more.
	if grants, pass, err := a.keysClient().Grants(ctx); err == nil && (len(grants) > 0 || pass != nil) {
		if err := a.keysClient().Stop(ctx); err != nil {
			a.term.Say("breakglass: warning: grants of the lost CA are held still: breakglass agent --stop")
		}
	}
	return a.refreshKnownHosts(s.Facts.Site)
}

// rollbackTimeout bounds what a command that failed waits for beside.
const rollbackTimeout = 5 * time.Second

// tellRollback shows a CA whose history went back, or sideways, the head that this machine has of it: it can't know better by itself, and issues nothing more.
func (a *app) tellRollback(ctx context.Context) {
	c, err := a.self().Client()
	if err != nil {
		return
	}
	defer c.Close()
	last, err := (home.Memory{Home: a.home}).Last()
	if err != nil || last == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rollbackTimeout)
	defer cancel()
	c.SeenHead(ctx, last) // its answer is what the next command reads
}

// replaced asks whether the CA keeps another ledger than the pinned one.
func (a *app) replaced(ctx context.Context) bool {
	c, err := a.self().Client()
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, rollbackTimeout)
	defer cancel()
	_, err = c.Site(ctx)
	return errors.Is(err, client.ErrSucceeded)
}
