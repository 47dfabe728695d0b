package background

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/internal/name"
)

var errReadOnly = errors.New("this agent holds the certificate of one grant and takes nothing")

// grantAgent is the ssh-agent of one grant (draft-miller-ssh-agent): its list is the one certificate, never the bare key, so that
// ssh offers the right one first and alone (an agent with several would use up the server's tries).
type grantAgent struct {
	key     *memoryKey
	cert    *ssh.Certificate
	login   name.Login
	comment string
}

func (a *grantAgent) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: a.cert.Type(), Blob: a.cert.Marshal(), Comment: a.comment}}, nil
}

func (a *grantAgent) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	if !bytes.Equal(key.Marshal(), a.cert.Marshal()) {
		return nil, fmt.Errorf("%w: another key", ErrForbidden)
	}
	return a.key.signLogin(a.cert, a.login, data)
}

func (a *grantAgent) SignWithFlags(key ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return a.Sign(key, data)
}

func (a *grantAgent) Extension(string, []byte) ([]byte, error) {
	return nil, agent.ErrExtensionUnsupported
}

func (a *grantAgent) Add(agent.AddedKey) error       { return errReadOnly }
func (a *grantAgent) Remove(ssh.PublicKey) error     { return errReadOnly }
func (a *grantAgent) RemoveAll() error               { return errReadOnly }
func (a *grantAgent) Lock([]byte) error              { return errReadOnly }
func (a *grantAgent) Unlock([]byte) error            { return errReadOnly }
func (a *grantAgent) Signers() ([]ssh.Signer, error) { return nil, errReadOnly }
