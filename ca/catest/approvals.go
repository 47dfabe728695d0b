package catest

import (
	"context"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// Asked is a request that waits for approvals, with its client key.
type Asked struct {
	*api.Waiting
	Ask    api.Ask
	Key    ssh.Signer
	Reader *client.Client // signs its calls with the client key
}

// Ask signs a request that needs approvals. change, if not nil, edits the ask. A request that is let in or refused at once is an error.
func (p *Person) Ask(login, host string, change func(*api.Ask)) (*Asked, error) {
	a := &Asked{Key: NewKey(p.CA.T)}
	a.Reader = p.CA.Client(a.Key)
	a.Ask = p.Want(a.Key.PublicKey())
	a.Ask.Login, a.Ask.Host = login, host
	if change != nil {
		change(&a.Ask)
	}
	_, err := p.Signed(a.Ask)
	if w, ok := client.NotGranted(err); ok {
		a.Waiting = w
		return a, nil
	}
	return a, err
}

// Signed asks and signs: a grant, an *api.Waiting as the error, or a refusal.
func (p *Person) Signed(q api.Ask) (*api.Granted, error) {
	ch, err := p.Client.Ask(context.Background(), q)
	if err != nil {
		return nil, err
	}
	return p.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// State reads a request with its client key.
func (a *Asked) State() (*api.RequestState, error) {
	return a.Reader.Request(context.Background(), a.ID)
}

// Grant is the request once it was allowed.
func (a *Asked) Grant() (*Grant, error) {
	s, err := a.State()
	if err != nil {
		return nil, err
	}
	if s.Granted == nil {
		return nil, s.Problem
	}
	return &Grant{s.Granted, a.Key}, nil
}

// Verdict signs a yes or no. change, if not nil, edits the ask.
func (p *Person) Verdict(a *Asked, verdict string, change func(*api.ApprovalAsk)) (*api.ApprovalState, error) {
	s, err := a.State()
	if err != nil {
		return nil, err
	}
	q := api.ApprovalAsk{Person: string(p.Name), About: statement.AboutRequest, Of: string(a.ID), Hash: s.Signed, Verdict: verdict}
	if change != nil {
		change(&q)
	}
	ch, err := p.Client.Approve(context.Background(), q)
	if err != nil {
		return nil, err
	}
	return p.Client.SignApproval(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}

// Again asks, in kind override or extend, for what q asked for.
func Again(q api.Ask, kind string, of name.RequestID, minutes int) api.Ask {
	q.Kind, q.Of, q.Minutes = kind, of, minutes
	return q
}
