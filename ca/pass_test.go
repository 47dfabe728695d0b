package ca_test

import (
	"context"
	"errors"
	"testing"

	"breakglass/ca/api"
	"breakglass/ca/catest"
)

// TestPassAndClientKeyAreTwoKeys: what lies where ssh can use it never reads more than its own request.
func TestPassAndClientKeyAreTwoKeys(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	ctx := context.Background()
	g, err := alice.Request("root", "web01")
	if err != nil {
		t.Fatal(err)
	}
	ch, err := alice.Client.Pass(ctx, api.PassAsk{Person: "alice", Holder: catest.Line(g.Key.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	_, err = alice.Client.SignPass(ctx, ch.ID, api.Signed{SSHSIG: alice.Sign(ch)})
	if p := new(api.Problem); !errors.As(err, &p) || p.Code != api.CodeConflict {
		t.Errorf("a pass for a grant's client key: %v", err)
	}
	holder := catest.NewKey(t)
	if ch, err = alice.Client.Pass(ctx, api.PassAsk{Person: "alice", Holder: catest.Line(holder.PublicKey())}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Client.SignPass(ctx, ch.ID, api.Signed{SSHSIG: alice.Sign(ch)}); err != nil {
		t.Fatal(err)
	}
	q := alice.Want(holder.PublicKey())
	q.Login, q.Host = "root", "web01"
	_, err = alice.Client.Ask(ctx, q)
	if p := new(api.Problem); !errors.As(err, &p) || p.Code != api.CodeBadRequest {
		t.Errorf("a request for a pass's key: %v", err)
	}
}
