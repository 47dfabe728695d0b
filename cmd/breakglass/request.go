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
	"breakglass/ca/api"
	"breakglass/ca/api/client"
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
	code                                     string
	minutes                                  int
	forwards                                 []string
	noWait, override                         bool
}

func (q *asked) flags(f *pflag.FlagSet) {
	f.StringVar(&q.reason, "reason", "", "why (recorded); asked for where it is missing")
	f.IntVar(&q.minutes, "minutes", 0, "for how long; 0 is what the rule gives")
	f.StringVar(&q.ticket, "ticket", "", "ticket")
	f.StringVar(&q.failure, "failure", "", "what is down, by one of the names that the site's policy has; a denial lists them")
	f.StringVar(&q.severity, "severity", "", "how bad it is, by one of the policy's severities (sev1 …); a denial lists them")
	f.StringArrayVar(&q.forwards, "forward", nil, `port forward to ask for: "local HOST:PORT", "remote BIND:PORT" …`)
	f.StringVar(&q.code, "totp", "", "the code that your other device shows, where the rule wants one; asked for where it is missing")
	f.BoolVar(&q.noWait, "no-wait", false, "do not wait for approvals: the request stays, and asking again goes on with it")
	f.BoolVar(&q.override, "override", false, "go on without the approvals that are missing, where the rule allows it: a second touch")
	f.StringVar(&q.drill, "drill", "", "the drill that this is")
}

func newRequestCmd(a *app) *cobra.Command {
	var q asked
	c := &cobra.Command{
		Use:   "request [LOGIN@]HOST",
		Short: "Ask for a grant; ssh, scp, rsync and git use it while it lasts",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.override && !strings.Contains(args[0], "@") { // an id, as the waiting line says it
				if w, err := a.overridable(cmd.Context(), args[0]); err == nil {
					args[0] = string(w.Login) + "@" + string(w.Host)
				}
			}
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

// request gets a grant: from a request that waits on this machine, or by asking, which takes at most a reason, a PIN and a touch; and then by waiting, where
// other people have to approve.
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
	w, err := a.waitingFor(ctx, login, host)
	if err != nil {
		return nil, err
	}
	// Meanwhile what is pinned follows the ledger; a fault there is said, and found again by the check of the answer.
	followed := make(chan error, 1)
	go func() { followed <- a.follow(ctx, c) }()
	var id name.RequestID // that waits
	var g *agent.Granted
	switch {
	case q.override && w == nil:
		return nil, withHint(fmt.Errorf("%w: %s@%s", agent.ErrNotWaiting, login, host), fmt.Sprintf("breakglass request %s@%s asks; overriding is possible after some time", login, host))
	case q.override:
		g, err = ag.Override(ctx, w.ID)
	case w != nil:
		id = w.ID
		if q.reason != "" { // nobody should believe that it was recorded
			a.term.Say("Request %s waits already and goes on, with the reason it was asked for; this one is not recorded.", id)
		}
		if q.noWait { // it may have been decided since
			if g, err = ag.Look(ctx, id); errors.Is(err, agent.ErrWaits) {
				err = nil
			} else {
				id = ""
			}
		}
	default:
		g, err = a.ask(ctx, ag, who.Person, login, host, q)
		if waits, ok := client.NotGranted(err); ok {
			id, err = waits.ID, nil
			a.term.Say("%s waits: rule %q lets you in with approvals (%d).", id, waits.Rule, waits.Needed)
		}
	}
	resume := fmt.Sprintf("breakglass ssh %s@%s goes on with it", login, host)
	switch {
	case err != nil:
		return nil, err
	case id != "" && q.noWait:
		return nil, withStatus(exitApproval, fmt.Errorf("approval_needed: request %s waits for approvals", id), resume, "breakglass grants")
	case id != "":
		if g, err = a.await(ctx, ag, id, resume); err != nil {
			return nil, err
		}
	}
	// What was granted is in a history that goes on from the one that this machine knows.
	if _, err := c.CheckCheckpoint(ctx, g.Checkpoint); err != nil {
		return nil, err
	}
	if err := <-followed; err != nil {
		a.term.Say("breakglass: warning: following the site: %s", clean(err.Error()))
	}
	a.term.Say("allowed by rule %q: %d min as %s on %s, until %s (%s%s).", g.Rule, g.Minutes, g.Login, g.Host,
		time.Now().Add(g.Left).Format("15:04"), g.ID, letIn(g.Granted))
	a.toldEnrolment(g.Enrolment)
	return g, nil
}

// ask asks the CA: a reason, a PIN, a touch. An *api.Waiting is the error where others have to approve.
func (a *app) ask(ctx context.Context, ag *agent.Agent, person name.Person, login name.Login, host name.Host, q asked) (*agent.Granted, error) {
	var err error
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
	want := agent.Want{
		Person: person, Login: login, Host: host, Minutes: q.minutes, Reason: q.reason, Ticket: q.ticket,
		Failure: q.failure, Severity: q.severity, Forwards: q.forwards, Drill: q.drill, Code: q.code,
	}
	g, err := ag.Request(ctx, want)
	if wantsCode(err) && want.Code == "" && a.term.Interactive() { // the rule is known only now; the next ask is a touch of its own
		if want.Code, err = a.code(ctx, "Code that your other device shows: "); err != nil {
			return nil, err
		}
		g, err = ag.Request(ctx, want)
	}
	return g, err
}

// letIn says of a grant what did not come from the requester alone.
func letIn(g *api.Granted) string {
	s := ""
	if len(g.Approved) > 0 {
		var names []string
		for _, p := range g.Approved {
			names = append(names, string(p))
		}
		s = ", approved by " + strings.Join(names, ", ")
	}
	return s + overridden(g.Overridden)
}

// overridable finds the request that an id names.
func (a *app) overridable(ctx context.Context, id string) (*background.Waiting, error) {
	list, err := a.keysClient().Waiting(ctx)
	if err != nil {
		return nil, err
	}
	return findWaiting(list, id)
}

// grant gives the live grant for login@host, or asks for one.
func (a *app) grant(ctx context.Context, login name.Login, host name.Host, q asked) (*background.Grant, error) {
	live, err := a.keysClient().Live(ctx, login, host, liveEnough)
	if err != nil {
		return nil, err
	}
	if live != nil && a.stopped(ctx, live) {
		a.term.Say("Grant %s was stopped: asking for a new one.", live.ID)
		if err := a.keysClient().End(ctx, live.ID); err != nil {
			return nil, err
		}
		live = nil
	}
	if live != nil {
		if q.reason != "" { // nobody should believe that it was recorded
			a.term.Say("Grant %s is alive and used, with the reason it was asked for; this one is not recorded.", live.ID)
		}
		for _, f := range q.forwards {
			if !allowsForward(live.Forwards, f) {
				a.term.Say("Grant %s is alive and used, without the forward %q. To ask for one with it: breakglass end %s", live.ID, clean(f), live.ID)
			}
		}
		return live, nil
	}
	g, err := a.request(ctx, login, host, q)
	if err != nil {
		return nil, err
	}
	return &background.Grant{Granted: *g.Granted, Socket: g.Socket, Left: int(g.Left.Seconds())}, nil
}
