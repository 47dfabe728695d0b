package main

import (
	"context"
	"fmt"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent/connect"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// check is one line of status.
type check struct {
	State string `json:"state"` // ok, warn, FAIL
	What  string `json:"what"`
	Found string `json:"found"`
	Next  string `json:"next,omitempty"`
}

// statusTime bounds each question.
const statusTime = 5 * time.Second

func newStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say whether the CA, the jumps and my keys can be reached now", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, err := a.checks(cmd.Context())
			if err != nil {
				return err
			}
			for _, c := range checks {
				if c.State == "FAIL" {
					a.status = exitFailed
				}
			}
			if a.json {
				return a.printJSON(checks)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
			for _, c := range checks {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.State, c.What, clean(c.Found), c.Next)
			}
			return w.Flush()
		},
	}
}

func (a *app) checks(ctx context.Context) ([]check, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	var out []check
	add := func(state, what, found, next string) { out = append(out, check{state, what, found, next}) }
	cctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	begin := time.Now()
	if err := a.follow(cctx, c); err != nil {
		add("FAIL", "ca", err.Error(), "")
	} else {
		add("ok", "ca", fmt.Sprintf("answers in %v, ledger of %d entries goes on from what was seen", time.Since(begin).Round(time.Millisecond), a.seen().Checkpoint.Size), "")
	}
	jumps, up := probeJumps(ctx, a.seen().Site.Jumps)
	out = append(out, jumps...)
	if up == 0 {
		add("FAIL", "jump", "no jump can be reached", "")
	}
	a.keyChecks(ctx, add)
	gs, pass, err := a.keysClient().Grants(ctx)
	switch {
	case err != nil:
		add("warn", "grants", err.Error(), "")
	default:
		text := fmt.Sprintf("%d alive", len(gs))
		if pass != nil {
			text += fmt.Sprintf(", a pass for %d s more", pass.Left)
		}
		add("ok", "grants", text, "breakglass grants")
	}
	return out, nil
}

// probeJumps asks all at once: one that hangs costs the time of one.
func probeJumps(ctx context.Context, jumps []ledger.SiteJump) (out []check, up int) {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	type probe struct {
		jump name.Jump
		addr string
		took time.Duration
		err  error
	}
	var all []*probe
	var wg sync.WaitGroup
	for _, j := range jumps {
		for _, addr := range j.Addresses {
			p := &probe{jump: j.Name, addr: addr}
			all = append(all, p)
			wg.Go(func() {
				begin := time.Now()
				p.err = connect.Probe(ctx, addr, name.Host(j.Name))
				p.took = time.Since(begin)
			})
		}
	}
	wg.Wait()
	for _, p := range all {
		if p.err != nil {
			out = append(out, check{"warn", "jump", fmt.Sprintf("%s at %v", p.jump, p.err), ""})
			continue
		}
		up++
		out = append(out, check{"ok", "jump", fmt.Sprintf("%s at %s, %v", p.jump, p.addr, p.took.Round(100*time.Microsecond)), ""})
	}
	return out, up
}

func (a *app) keyChecks(ctx context.Context, add func(state, what, found, next string)) {
	states, probe, err := a.keyStates(ctx)
	switch {
	case err != nil:
		add("FAIL", "keys", err.Error(), "")
		return
	case probe != nil:
		add("warn", "keys", probe.Error(), "")
		return
	}
	if until := a.home.RenewBy(); !until.IsZero() {
		switch text := renewWarning(until, time.Now()); {
		case time.Now().After(until):
			add("FAIL", "enrolment", text, "breakglass renew")
		case text != "":
			add("warn", "enrolment", text, "breakglass renew")
		default:
			add("ok", "enrolment", "until "+until.Local().Format("Mon 2 Jan 2006"), "")
		}
	}
	here := 0
	for _, s := range states {
		if s.Here == "yes" {
			here++
		}
	}
	switch {
	case here == 0:
		add("FAIL", "keys", fmt.Sprintf("none of your %d is plugged in", len(states)), "plug one in")
	case len(states) < 2:
		add("warn", "keys", "you have one key alone; it may be lost when it counts", "breakglass enroll --key-name OTHER TOKEN")
	default:
		add("ok", "keys", fmt.Sprintf("%d of your %d are plugged in", here, len(states)), "")
	}
}
