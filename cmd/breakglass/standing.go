package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"breakglass/ca/api"
)

// holdsPass says whether a pass is alive, so that the CA can be asked without a touch.
func (a *app) holdsPass(ctx context.Context) bool {
	_, pass, err := a.keysClient().Grants(ctx)
	return err == nil && pass != nil && pass.Left > 60
}

// askStanding adds to each key where the CA says it stands, and the keys that this machine doesn't know.
func (a *app) askStanding(ctx context.Context, states []keyState) ([]keyState, error) {
	c, err := a.pass(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range list.Keys {
		i := slices.IndexFunc(states, func(s keyState) bool { return s.Fingerprint == k.Fingerprint })
		if i < 0 {
			states = append(states, keyState{Name: k.Name, Fingerprint: k.Fingerprint, Here: "unknown"})
			i = len(states) - 1
		}
		states[i].CA = &k
	}
	if list.Counting < list.Required {
		a.term.Say("breakglass: warning: %d of the %d keys that the policy asks for count: uses take an approval more. Next: breakglass enroll TOKEN", list.Counting, list.Required)
	}
	a.toldEnrolment(list.Until)
	return states, nil
}

// standingHead and standingText are the columns that an answer of the CA adds.
func standingHead(states []keyState) string {
	if !slices.ContainsFunc(states, func(s keyState) bool { return s.CA != nil }) {
		return ""
	}
	return "\tstate\tlast proved\tuntil\tmodel\tcounter"
}

func standingText(k *api.KeyStanding) string {
	if k == nil {
		return ""
	}
	state, until := k.State, "–"
	if k.State == "pending" {
		state = "not vouched for"
		if !k.CountsFrom.IsZero() {
			state = "counts from " + k.CountsFrom.Local().Format("Mon 15:04")
		}
	}
	if !k.Until.IsZero() {
		until = k.Until.Local().Format(time.DateOnly)
	}
	return fmt.Sprintf("\t%s\t%s\t%s\t%s\t%d", state, k.Proved.Local().Format(time.DateOnly), until, clean(orDash(k.Model)), k.Counter)
}
