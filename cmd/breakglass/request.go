package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"breakglass/agent"
	"breakglass/agent/background"
	"breakglass/agent/terminal"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

const (
	// liveEnough is how much of a grant must be left to be used without asking again.
	liveEnough = 10 * time.Second
	// reasonMin saves a touch that the policy would answer with a no: 20 is its default. It may want more, and says so.
	reasonMin = 20
)

// asked are the flags of a request.
type asked struct {
	reason, ticket, failure, severity, drill string
	minutes                                  int
	forwards                                 []string
}

func (q *asked) flags(f *pflag.FlagSet) {
	f.StringVar(&q.reason, "reason", "", "why (recorded); asked for where it is missing")
	f.IntVar(&q.minutes, "minutes", 0, "for how long; 0 is what the rule gives")
	f.StringVar(&q.ticket, "ticket", "", "ticket")
	f.StringVar(&q.failure, "failure", "", "what is down, as you declare it")
	f.StringVar(&q.severity, "severity", "", "severity, as you declare it")
	f.StringArrayVar(&q.forwards, "forward", nil, `port forward to ask for: "local HOST:PORT", "remote BIND:PORT" …`)
	f.StringVar(&q.drill, "drill", "", "the drill that this is")
}

func newRequestCmd(a *app) *cobra.Command {
	var q asked
	c := &cobra.Command{
		Use:   "request [LOGIN@]HOST",
		Short: "Ask for a grant; ssh, scp, rsync and git use it while it lasts",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			login, host, err := a.target(args[0])
			if err != nil {
				return err
			}
			g, err := a.request(cmd.Context(), login, host, q)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(g.Granted)
			}
			a.term.Say("Next: breakglass ssh %s@%s", login, host)
			return nil
		},
	}
	q.flags(c.Flags())
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

// target splits [login@]host; the login that is missing is the configuration's, else ssh's own choice for that name.
func (a *app) target(s string) (name.Login, name.Host, error) {
	login, host, err := name.SplitTarget(s)
	if err != nil {
		return "", "", usage(err)
	}
	if login != "" {
		return login, host, nil
	}
	if who, err := a.home.LoadPerson(); err == nil && who.Login != "" {
		return who.Login, host, nil
	}
	if login, err = a.sshUser(string(host)); err != nil {
		return "", "", usagef("which login on %s? %w", host, err)
	}
	return login, host, nil
}

// request asks for a grant: at most a reason, a PIN and a touch.
func (a *app) request(ctx context.Context, login name.Login, host name.Host, q asked) (*agent.Granted, error) {
	who, err := a.home.LoadPerson()
	if err != nil {
		return nil, err
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return nil, err
	}
	defer fido.Forget()
	if q.reason == "" {
		q.reason, err = a.term.Ask(ctx, fmt.Sprintf("Why? (recorded, at least %d characters)  ", reasonMin))
		if errors.Is(err, terminal.ErrNobody) {
			return nil, withStatus(exitUsage, errors.New("no reason given, and no terminal to ask for one on"),
				fmt.Sprintf("breakglass request --reason TEXT %s@%s", login, host))
		}
		if err != nil {
			return nil, err
		}
	}
	q.reason = strings.TrimSpace(q.reason)
	if n := utf8.RuneCountInString(q.reason); n < reasonMin {
		return nil, withStatus(exitUsage, fmt.Errorf("the reason has %d characters, at least %d are wanted", n, reasonMin),
			"say what is down and why it can't wait: it is what the reviewer reads first")
	}
	for what, s := range map[string]string{"reason": q.reason, "ticket": q.ticket, "failure": q.failure, "severity": q.severity, "drill": q.drill} {
		if err := statement.CheckText(s); err != nil {
			return nil, usagef("%s: %w", what, err)
		}
	}
	// Meanwhile what is pinned follows the ledger; a fault there is said, and found again by the check of the answer.
	followed := make(chan error, 1)
	go func() { followed <- a.follow(ctx, c) }()
	g, err := ag.Request(ctx, agent.Want{
		Person: who.Person, Login: login, Host: host, Minutes: q.minutes, Reason: q.reason, Ticket: q.ticket,
		Failure: q.failure, Severity: q.severity, Forwards: q.forwards, Drill: q.drill,
	})
	if err != nil {
		return nil, err
	}
	// What was granted is in a history that goes on from the one that this machine knows.
	if _, err := c.CheckCheckpoint(ctx, g.Checkpoint); err != nil {
		return nil, err
	}
	if err := <-followed; err != nil {
		a.term.Say("breakglass: warning: following the site: %s", clean(err.Error()))
	}
	a.term.Say("allowed by rule %q: %d min as %s on %s, until %s (%s).", g.Rule, g.Minutes, g.Login, g.Host,
		time.Now().Add(g.Left).Format("15:04"), g.ID)
	return g, nil
}

// grant gives the live grant for login@host, or asks for one.
func (a *app) grant(ctx context.Context, login name.Login, host name.Host, q asked) (*background.Grant, error) {
	live, err := a.keysClient().Live(ctx, login, host, liveEnough)
	if err != nil {
		return nil, err
	}
	if live != nil {
		if q.reason != "" { // nobody should believe that it was recorded
			a.term.Say("Grant %s is alive and used, with the reason it was asked for; this one is not recorded.", live.ID)
		}
		return live, nil
	}
	g, err := a.request(ctx, login, host, q)
	if err != nil {
		return nil, err
	}
	return &background.Grant{Granted: *g.Granted, Socket: g.Socket, Left: int(g.Left.Seconds())}, nil
}
