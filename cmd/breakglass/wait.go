package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"breakglass/agent"
	"breakglass/agent/background"
	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// await waits until a request of this machine is decided. Ctrl-C ends the wait, not the request.
func (a *app) await(ctx context.Context, ag *agent.Agent, id name.RequestID, resume string) (*agent.Granted, error) {
	line := a.term.Line()
	defer line.Done()
	told := map[string]bool{}
	g, err := ag.Await(ctx, id, func(st *api.RequestState) {
		// What is left is counted here from what the CA says: this machine's clock may be wrong.
		got := time.Now()
		for _, s := range st.Said {
			if k := string(s.Person) + s.At.String(); s.Comment != "" && !told[k] {
				told[k] = true
				word := "yes"
				if s.Verdict == statement.Deny {
					word = "no"
				}
				line.Note("%s: %s, %q", clean(string(s.Person)), word, clean(s.Comment))
			}
		}
		line.Set(waitLine(st), func() string { return waitLeft(st, time.Since(got)) })
	})
	if ctx.Err() != nil {
		return nil, withHint(fmt.Errorf("%w: request %s goes on waiting", errInterrupted, id), resume, "breakglass end "+string(id)+" gives it up")
	}
	return g, err
}

// waitLine says who was asked and what they said.
func waitLine(st *api.RequestState) string {
	w := st.Waiting
	var names []string
	for _, p := range w.Approvers {
		s := string(p.Person)
		switch v := said(st.Said, p.Person, w.Now); {
		case v != "":
			s += " (" + v + ")"
		case p.Seen:
			s += " (seen)"
		}
		names = append(names, clean(s))
	}
	text := fmt.Sprintf("asked %d: %s · %d of %d approved", len(w.Approvers), strings.Join(names, ", "), w.Given, w.Needed)
	if !w.OverrideAt.IsZero() && !w.Now.Before(w.OverrideAt) {
		text += " · override possible: breakglass request --override " + string(w.ID)
	}
	return text
}

func said(list []api.Said, p name.Person, now time.Time) string {
	for _, s := range list {
		switch {
		case s.Person != p:
		case s.Verdict == statement.Deny:
			return "no"
		case now.Before(s.Until):
			return "yes"
		default:
			return "yes, lapsed"
		}
	}
	return ""
}

// waitLeft is what runs out meanwhile.
func waitLeft(st *api.RequestState, passed time.Duration) string {
	w := st.Waiting
	text := ""
	if left := w.OverrideAt.Sub(w.Now) - passed; !w.OverrideAt.IsZero() && w.Now.Before(w.OverrideAt) {
		if left > 0 {
			text += " · override in " + minutesLeft(left)
		} else {
			text += " · override now"
		}
	}
	return text + " · " + minutesLeft(max(0, w.Expires.Sub(w.Now)-passed)) + " left, Ctrl-C keeps it"
}

// minutesLeft is a time to wait as a clock shows it: 8:12.
func minutesLeft(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// waitingFor finds the request for login@host that waits on this machine; nil is none. An extension is its grant's matter.
func (a *app) waitingFor(ctx context.Context, login name.Login, host name.Host) (*background.Waiting, error) {
	list, err := a.keysClient().Waiting(ctx)
	if err != nil {
		return nil, err
	}
	var found *background.Waiting
	for i := range list {
		if w := &list[i]; w.Of == "" && w.Login == login && w.Host == host && (found == nil || w.Left > found.Left) {
			found = w
		}
	}
	return found, nil
}

// findWaiting takes a whole id, a prefix of one with or without the dash, or login@host.
func findWaiting(list []background.Waiting, s string) (*background.Waiting, error) {
	var found *background.Waiting
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "") }
	for i := range list {
		if string(list[i].Login)+"@"+string(list[i].Host) == s || s != "" && strings.HasPrefix(plain(string(list[i].ID)), plain(s)) {
			if found != nil {
				return nil, withHint(usagef("%q fits more than one request", s), "breakglass grants")
			}
			found = &list[i]
		}
	}
	if found == nil {
		return nil, withHint(fmt.Errorf("no request %q waits on this machine", s), "breakglass grants", "an override takes the machine that asked: its key is there alone")
	}
	return found, nil
}
