package background

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/agent/home"
)

// JumpSocket is the ssh-agent with which stock `ssh -J` proves to a jump that somebody with a live grant comes. Which grant doesn't matter there: what
// the jump answers inside is a connection of its own, for which the grant's own ssh-agent speaks.
func JumpSocket(h home.Home) string { return h.Socket(jumpName) }

// jumpName is no LOGIN@HOST and no request's id.
const jumpName = "jumps"

// maxOffered bounds the list: a server ends a connection after six tries, and one is enough.
const maxOffered = 3

// jumpAgent lists the certificates of the living grants, those that last longest first.
type jumpAgent struct {
	server *server
}

// grants are the agents of the living grants.
func (a *jumpAgent) grants() []*grantAgent {
	a.server.mu.Lock()
	defer a.server.mu.Unlock()
	var out []*grantAgent
	for _, h := range a.server.keys {
		if h.granted != nil && h.socket != "" {
			out = append(out, h.agent)
		}
	}
	slices.SortFunc(out, func(x, y *grantAgent) int {
		// The serial's order is only to have one.
		return slices.Compare([]uint64{y.certificate().ValidBefore, y.certificate().Serial}, []uint64{x.certificate().ValidBefore, x.certificate().Serial})
	})
	return out[:min(len(out), maxOffered)]
}

func (a *jumpAgent) List() ([]*agent.Key, error) {
	keys := []*agent.Key{}
	for _, g := range a.grants() {
		k, err := g.List()
		if err != nil {
			return nil, err
		}
		keys = append(keys, k...)
	}
	return keys, nil
}

// Sign signs under any user name: at the outer connection of `ssh -J` stock ssh gives the local one.
func (a *jumpAgent) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	for _, g := range a.grants() {
		if cert := g.certificate(); bytes.Equal(key.Marshal(), cert.Marshal()) {
			return g.key.signLogin(cert, func(string) bool { return true }, data)
		}
	}
	return nil, fmt.Errorf("%w: another key", ErrForbidden)
}

func (a *jumpAgent) SignWithFlags(key ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return a.Sign(key, data)
}

func (a *jumpAgent) Extension(string, []byte) ([]byte, error) {
	return nil, agent.ErrExtensionUnsupported
}

func (a *jumpAgent) Add(agent.AddedKey) error       { return errReadOnly }
func (a *jumpAgent) Remove(ssh.PublicKey) error     { return errReadOnly }
func (a *jumpAgent) RemoveAll() error               { return errReadOnly }
func (a *jumpAgent) Lock([]byte) error              { return errReadOnly }
func (a *jumpAgent) Unlock([]byte) error            { return errReadOnly }
func (a *jumpAgent) Signers() ([]ssh.Signer, error) { return nil, errReadOnly }
