package ca_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"

	"breakglass/ca/api"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
)

// order has p sign an order as the CA words it.
func order(p *catest.Person, act, target, reason string, detail statement.Hash) (*api.OrderDone, error) {
	ch, err := p.Client.Order(context.Background(), api.OrderAsk{Person: string(p.Name), Act: act, Target: target, Reason: reason, Detail: detail})
	if err != nil {
		return nil, err
	}
	return p.Client.SignOrder(context.Background(), ch.ID, api.SignedOrder{SSHSIG: p.Sign(ch)})
}

func codeOf(err error) string {
	var p *api.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return ""
}

func TestAnOperatorInvitesAndRevokes(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	g, err := alice.Request("root", "web01")
	catest.Must(t, err)
	secret := sha256.Sum256([]byte("drawn by the client"))
	done, err := order(alice, statement.OrderInvitePerson, "carol", "", sha256.Sum256(secret[:]))
	catest.Must(t, err)
	if done.Expires.IsZero() {
		t.Errorf("an invite without an end: %+v", done)
	}
	done, err = order(alice, statement.OrderRevokeGrant, string(g.ID), "laptop stolen", statement.Hash{})
	catest.Must(t, err)
	if len(done.Stopped.Grants) != 1 || done.Stopped.Grants[0] != g.ID {
		t.Errorf("stopped %+v", done.Stopped)
	}
	c.Audit()
}
