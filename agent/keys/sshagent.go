package keys

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh/agent"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
)

// SSHAgent signs with a key that an ssh-agent holds (ssh-add -K, or a file made by ssh-keygen). The agent asks for the PIN by itself.
// OpenSSH's signs any data for applications that begin with "ssh:" (ssh-agent.c, check_websafe_message_contents).
type SSHAgent struct {
	Socket string // $SSH_AUTH_SOCK
	Prompt Prompter
}

// Sign is Signer's.
func (s *SSHAgent) Sign(ctx context.Context, statement []byte, namespace string, keys []api.KeyHandle) (*sshsig.Signature, error) {
	if s.Socket == "" {
		return nil, ErrNotHere
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.Socket)
	if err != nil {
		return nil, fmt.Errorf("%w: ssh-agent: %w", ErrNotHere, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	a := agent.NewClient(conn)
	held, err := a.List()
	if err != nil {
		return nil, fmt.Errorf("%w: ssh-agent: %w", ErrNotHere, err)
	}
	for _, k := range keys {
		pub, err := parse(k)
		if err != nil {
			return nil, err
		}
		for _, h := range held {
			if !bytes.Equal(h.Blob, pub.Marshal()) {
				continue
			}
			done := s.Prompt.Touch([]name.Key{k.Name}, len(keys), deadline(ctx))
			sig, err := a.Sign(pub, sshsig.SignedData(namespace, statement))
			done()
			if ctx.Err() != nil {
				return nil, fmt.Errorf("ssh-agent: %w", ctx.Err())
			}
			if err != nil {
				return nil, fmt.Errorf("%w: ssh-agent, key %s: %w", ErrRefused, k.Name, err)
			}
			return &sshsig.Signature{PublicKey: pub, Namespace: namespace, Inner: *sig}, nil
		}
	}
	return nil, fmt.Errorf("%w: the ssh-agent holds none of them", ErrNotHere)
}
