package main

import (
	"bytes"
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/helper"
	"breakglass/agent/fido2/wire"
	"breakglass/ca/api"
	"breakglass/internal/name"
)

// keyState is a key as `breakglass keys` shows it.
type keyState struct {
	Name        name.Key `json:"name"`
	Fingerprint string   `json:"fingerprint"`
	Here        string   `json:"here"` // "yes", "no" or "unknown"
	Device      string   `json:"device,omitempty"`
	PIN         bool     `json:"pin,omitempty"`
	UV          bool     `json:"uv,omitempty"`
	// CA is where it stands there; nil if it was not asked.
	CA *api.KeyStanding `json:"ca,omitempty"`
}

const probeTime = 10 * time.Second

func newKeysCmd(a *app) *cobra.Command {
	var ask bool
	c := &cobra.Command{
		Use: "keys", Short: "List my keys, and which of them are plugged in (nothing blinks, without --ca)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			states, perr, err := a.keyStates(cmd.Context())
			if err != nil {
				return err
			}
			if ask || a.holdsPass(cmd.Context()) {
				if states, err = a.askStanding(cmd.Context(), states); err != nil {
					return err
				}
			}
			if a.json {
				return a.printJSON(states)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "key\tplugged in\tverifies by\tfingerprint"+standingHead(states))
			for _, s := range states {
				by := ""
				switch {
				case s.UV:
					by = "itself"
				case s.PIN:
					by = "PIN"
				case s.Here == "yes":
					by = "nothing"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\n", s.Name, s.Here, by, s.Fingerprint, standingText(s.CA))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if perr != nil {
				a.term.Say("breakglass: warning: %v", perr)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&ask, "ca", false, "ask the CA where each of them stands (needs a pass: one touch in 15 minutes)")
	c.AddCommand(newKeysUnlockCmd(a))
	return c
}

// keyStates asks the helper; where that can't be asked, what is plugged in is unknown.
func (a *app) keyStates(ctx context.Context) (states []keyState, probe, err error) {
	who, err := a.home.LoadPerson()
	if err != nil {
		return nil, nil, err
	}
	var wk []wire.Key
	states = []keyState{}
	for _, k := range who.Keys {
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.PublicKey))
		if err != nil {
			return nil, nil, fmt.Errorf("reading key %s: %w", k.Name, err)
		}
		wk = append(wk, wire.Key{CredentialID: k.CredentialID, PublicKey: pub.Marshal()})
		states = append(states, keyState{Name: k.Name, Fingerprint: ssh.FingerprintSHA256(pub), Here: "unknown"})
	}
	if len(wk) == 0 {
		return states, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	r, err := (&helper.Client{Path: a.getenv("BREAKGLASS_FIDO2")}).Probe(ctx, api.Application, wk)
	if err != nil {
		return states, err, nil
	}
	for i := range states {
		states[i].Here = "no"
		for _, h := range r.Holdings {
			if bytes.Equal(h.CredentialID, wk[i].CredentialID) {
				states[i].Here, states[i].Device, states[i].PIN, states[i].UV = "yes", h.Device.Path, h.Device.PINSet, h.Device.UV
			}
		}
	}
	return states, nil, nil
}
