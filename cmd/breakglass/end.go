package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"breakglass/agent/background"
	"breakglass/ca/api"
	"breakglass/internal/name"
)

// endedByItsPerson is what the ledger says where nobody gave a reason.
const endedByItsPerson = "no longer needed"

func newEndCmd(a *app) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "end ID", Short: "Give up a grant of mine: its sessions end, its key is wiped", Args: cobra.ExactArgs(1),
		Long: `Gives up a grant, or a request that waits: the CA opens nothing under it any more, sessions that run end at once, and the key that this machine
holds for it is wiped. A grant that was asked for on another machine is given up with your pass (a touch, unless you gave one a little while ago).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			id, key, err := a.held(ctx, args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if key != nil {
				c = c.WithSigner(a.keysClient().Signer(key))
			} else if c, err = a.pass(ctx); err != nil {
				return err
			}
			stopped, err := c.End(ctx, id, api.StopAsk{Why: reason})
			if key != nil { // whatever the CA says: what was asked is that nothing here opens anything
				if werr := a.keysClient().End(ctx, id); werr != nil {
					return errors.Join(err, werr)
				}
			}
			var p *api.Problem
			if key != nil && err != nil && !(errors.As(err, &p) && p.Code == api.CodeOver) {
				return withHint(fmt.Errorf("its key is wiped here, and the CA does not know: sessions that run go on until the grant's end: %w", err),
					"ask somebody with a pass: breakglass kill "+string(id))
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(stopped)
			}
			a.term.Say("%s is given up: nothing opens under it any more.", id)
			a.sayStopped(stopped)
			return nil
		},
	}
	c.Flags().StringVar(&reason, "reason", endedByItsPerson, "why, for the ledger")
	return c
}

// held finds a grant or a waiting request on this machine, with the key that it is for; for a whole id that is not here, the key is nil.
func (a *app) held(ctx context.Context, arg string) (name.RequestID, ssh.PublicKey, error) {
	gs, _, err := a.keysClient().Grants(ctx)
	if err != nil {
		return "", nil, err
	}
	g, err := findGrant(gs, arg)
	if err == nil {
		key, err := grantKey(g)
		return g.ID, key, err
	}
	ws, werr := a.keysClient().Waiting(ctx)
	if werr != nil {
		return "", nil, werr
	}
	if w, werr := findWaiting(ws, arg); werr == nil {
		key, err := waitingKey(w)
		return w.ID, key, err
	}
	if id, perr := name.ParseRequestID(arg); perr == nil && len(arg) >= len(id) {
		return id, nil, nil
	}
	return "", nil, err
}

func waitingKey(w *background.Waiting) (ssh.PublicKey, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(w.PublicKey))
	return k, err
}

func (a *app) sayStopped(s *api.Stopped) {
	for _, id := range s.Sessions {
		a.term.Say("Session %s ends now; its recording stays.", clean(string(id)))
	}
}

// stoppedTime bounds the question whether a grant still stands: without an answer it is used, and the jump asks anyway.
const stoppedTime = 2 * time.Second

// stopped says whether a grant that is alive on this machine was revoked, killed or ended elsewhere.
func (a *app) stopped(ctx context.Context, g *background.Grant) bool {
	ctx, cancel := context.WithTimeout(ctx, stoppedTime)
	defer cancel()
	key, err := grantKey(g)
	if err != nil {
		return false
	}
	c, err := a.client()
	if err != nil {
		return false
	}
	st, err := c.WithSigner(a.keysClient().Signer(key)).Request(ctx, g.ID)
	return err == nil && st.State == "revoked"
}
