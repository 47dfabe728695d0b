package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/agent/home"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
)

// maxLineInput bounds what is read of standard input.
const maxLineInput = 4 << 10

func newPinsImportCmd(a *app) *cobra.Command {
	var person, force string
	c := &cobra.Command{
		Use: "import LINE... | import -", Short: "Set up this machine from the line on your runbook's page",
		Long: `Import takes the line that "breakglass runbook" and "breakglass pins --line" print, typed or scanned; spaces, dashes and the case of letters
don't matter. It holds no secret: it pins the CA, and the CA then shows the rest with proof. With your enrolled key plugged in,
"breakglass ssh" works after that; no enrolment is made.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := strings.Join(args, "")
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(a.stdin, maxLineInput))
				if err != nil {
					return fmt.Errorf("reading the line: %w", err)
				}
				text = string(b)
			}
			return a.importPins(cmd.Context(), text, person, force)
		},
	}
	c.Flags().StringVar(&person, "person", "", "who you are; asked for where it is missing")
	c.Flags().StringVar(&force, "force", "", "give up the pins that are here; takes the origin that they are of")
	return c
}

func (a *app) importPins(ctx context.Context, text, who, force string) error {
	line, err := api.ParsePinsLine(text)
	if err != nil {
		return withStatus(exitUsage, err, "compare it with the paper, group by group")
	}
	old, oldErr := a.home.Pins()
	same := oldErr == nil && line.Is(old.Site.LedgerKey)
	if oldErr != nil && !errors.Is(oldErr, home.ErrNotEnrolled) && force == "" {
		return withHint(oldErr, "breakglass pins import --force unreadable LINE, if nothing can be made of that file")
	}
	if oldErr == nil && !same && force != old.Site.Origin {
		// In the place of a true CA's pins another's would have every statement signed for that other one.
		return withStatus(exitUsage, fmt.Errorf("this machine is set up for %s, and the line is another installation's", old.Site.Origin),
			"give the other one a directory of its own: "+home.Env+"=DIR breakglass pins import LINE",
			"or give this one up: breakglass pins import --force "+old.Site.Origin+" LINE")
	}
	person, err := a.whoIsIt(ctx, who, same)
	if err != nil {
		return err
	}
	var next api.Pins
	if same { // what is here is proved already, and may be newer than the paper
		next = old
	} else if next, err = client.Bootstrap(ctx, line); err != nil {
		return withHint(err, "compare the line with the paper; has the CA moved, or changed its keys twice since it was printed?")
	}
	if err := a.home.SavePins(next); err != nil {
		return err
	}
	if !same {
		// The head that was seen before is another ledger's, and so are the keys.
		if err := (home.Memory{Home: a.home}).Save(next.Checkpoint); err != nil {
			return err
		}
	}
	p, err := a.home.LoadPerson()
	if err != nil || !same || p.Person != person {
		p = home.Person{Person: person}
	}
	if err := a.home.SavePerson(p); err != nil {
		return err
	}
	if err := a.refreshKnownHosts(next.Site); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(next)
	}
	a.term.Say("This machine is set up for %s at %s (%s).", person, next.Site.Name, next.Site.Profile)
	a.term.Say("Next: breakglass ssh LOGIN@HOST, with your key plugged in")
	return nil
}

// whoIsIt is the person: as given, as configured for the same installation, or as they say.
func (a *app) whoIsIt(ctx context.Context, who string, same bool) (name.Person, error) {
	if who == "" && same {
		if p, err := a.home.LoadPerson(); err == nil {
			return p.Person, nil
		}
	}
	if who == "" {
		var err error
		who, err = a.term.Ask(ctx, "Who are you, by the name that the CA knows? ")
		if errors.Is(err, terminal.ErrNobody) {
			return "", withStatus(exitUsage, errors.New("whose machine is it?"), "breakglass pins import --person NAME LINE")
		} else if err != nil {
			return "", err
		}
	}
	p, err := name.ParsePerson(who)
	if err != nil {
		return "", usage(err)
	}
	return p, nil
}
