package background

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"sync"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/statement"
)

// memoryKey is an ed25519 key that exists here alone. It hands out no private half, so that wipe leaves none behind.
type memoryKey struct {
	public ssh.PublicKey

	mu      sync.Mutex
	private ed25519.PrivateKey // nil once wiped
}

func newMemoryKey() (*memoryKey, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &memoryKey{public: p, private: priv}, nil
}

func (k *memoryKey) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.private)
	k.private = nil
}

func (k *memoryKey) sign(data []byte) (*ssh.Signature, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.private == nil {
		return nil, ErrNoKey
	}
	return &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: ed25519.Sign(k.private, data)}, nil
}

// signCall signs what an SSHSIG under call@breakglass signs, and nothing else.
func (k *memoryKey) signCall(data []byte) (*ssh.Signature, error) {
	var w struct{ Namespace, Reserved, Hash, Digest string }
	rest, ok := bytes.CutPrefix(data, []byte("SSHSIG"))
	if !ok || ssh.Unmarshal(rest, &w) != nil || w.Namespace != statement.KindCall.Namespace() || len(w.Digest) != 64 {
		return nil, fmt.Errorf("%w: only calls", ErrForbidden)
	}
	return k.sign(data)
}

// signLogin signs a userauth request (RFC 4252 section 7) under a user name that fits, by its own certificate. Whoever reaches the
// socket (a forwarded agent, a program of the same user) gets nothing else signed.
func (k *memoryKey) signLogin(cert *ssh.Certificate, fits func(user string) bool, data []byte) (*ssh.Signature, error) {
	var w struct {
		SessionID []byte
		Type      byte
		User      string
		Service   string
		Method    string
		HasSig    bool
		Algorithm string
		Key       []byte
		Rest      []byte `ssh:"rest"`
	}
	const userauthRequest = 50 // SSH_MSG_USERAUTH_REQUEST
	if ssh.Unmarshal(data, &w) != nil || w.Type != userauthRequest || w.Service != "ssh-connection" || !w.HasSig || w.Algorithm != ssh.CertAlgoED25519v01 {
		return nil, fmt.Errorf("%w: only a login", ErrForbidden)
	}
	switch {
	case w.Method == "publickey" && len(w.Rest) == 0:
	case w.Method == "publickey-hostbound-v00@openssh.com": // OpenSSH PROTOCOL section 1.10: the host key follows
		var h struct{ HostKey []byte }
		if ssh.Unmarshal(w.Rest, &h) != nil {
			return nil, fmt.Errorf("%w: only a login", ErrForbidden)
		}
	default:
		return nil, fmt.Errorf("%w: only a login", ErrForbidden)
	}
	if !fits(w.User) || !bytes.Equal(w.Key, cert.Marshal()) {
		return nil, fmt.Errorf("%w: only its own login, by its own certificate", ErrForbidden)
	}
	return k.sign(data)
}

// fingerprint names a key.
func fingerprint(k ssh.PublicKey) string { return ssh.FingerprintSHA256(k) }

// remoteKey is a key of the background process as a signer for calls.
type remoteKey struct {
	client *Client
	public ssh.PublicKey
}

func (r *remoteKey) PublicKey() ssh.PublicKey { return r.public }
