package background

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"breakglass/internal/name"
)

var errReadOnly = errors.New("this agent holds the certificate of one grant and takes nothing")

// grantAgent is the ssh-agent of one grant (draft-miller-ssh-agent): its list is the one certificate, never the bare key, so that
// ssh offers the right one first and alone (an agent with several would use up the server's tries).
type grantAgent struct {
	key     *memoryKey
	login   name.Login
	host    name.Host
	comment string

	mu   sync.Mutex
	cert *ssh.Certificate // an extension brings a later one
}

func (a *grantAgent) certificate() *ssh.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cert
}

// extend takes the certificate of an extension: whoever asks next gets it, on connections that stand, too.
func (a *grantAgent) extend(cert *ssh.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cert = cert
}

func (a *grantAgent) List() ([]*agent.Key, error) {
	cert := a.certificate()
	return []*agent.Key{{Format: cert.Type(), Blob: cert.Marshal(), Comment: a.comment}}, nil
}

func (a *grantAgent) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	cert := a.certificate()
	if !bytes.Equal(key.Marshal(), cert.Marshal()) {
		return nil, fmt.Errorf("%w: another key", ErrForbidden)
	}
	return a.key.signLogin(cert, a.own, data)
}

// own says which user names are this grant's: the login, and LOGIN@HOST, which names the host to the jump.
func (a *grantAgent) own(user string) bool {
	return user == string(a.login) || user == string(a.login)+"@"+string(a.host)
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
