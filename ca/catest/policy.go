package catest

import (
	"context"
	"os"
	"path/filepath"

	"breakglass/ca/api"
	"breakglass/internal/statement"
)

// PolicyFile writes the policy file beside the CA.
func (c *CA) PolicyFile(text string) {
	c.T.Helper()
	Must(c.T, os.WriteFile(filepath.Join(c.Dir, "policy.toml"), []byte(text), 0o600))
}

// Propose offers a text as the next policy, with a new pass.
func (p *Person) Propose(text string) (*api.PolicyState, error) {
	cl, err := p.Pass()
	if err != nil {
		return nil, err
	}
	return cl.ProposePolicy(context.Background(), text)
}

// ReadPolicy reads what is in force and what is proposed, as somebody who signs has to.
func (p *Person) ReadPolicy() (*api.PolicyState, error) {
	cl, err := p.Pass()
	if err != nil {
		return nil, err
	}
	return cl.Policy(context.Background())
}

// SignProposal reads what is proposed and signs it.
func (p *Person) SignProposal() (*api.PolicyState, error) {
	s, err := p.ReadPolicy()
	if err != nil {
		return nil, err
	}
	q := api.PolicyAsk{Policy: statement.Hash{1}, Previous: s.Policy, Changes: statement.Hash{1}} // of none
	if s.Proposal != nil {
		q.Policy, q.Changes = s.Proposal.Policy, s.Proposal.Changes
	}
	return p.SignPolicy(q)
}

// SignPolicy signs any change.
func (p *Person) SignPolicy(q api.PolicyAsk) (*api.PolicyState, error) {
	q.Person = string(p.Name)
	ch, err := p.Client.AskPolicy(context.Background(), q)
	if err != nil {
		return nil, err
	}
	return p.Client.SignPolicy(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch)})
}
