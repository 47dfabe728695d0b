package background

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

// Waiting is a request that waits for approvals: its client key stays here, whoever ends the command that asked.
type Waiting struct {
	ID        name.RequestID `json:"id"`
	Of        name.RequestID `json:"of,omitempty"` // the grant that it would extend
	Login     name.Login     `json:"login"`
	Host      name.Host      `json:"host"`
	Rule      name.Rule      `json:"rule"`
	Statement string         `json:"statement"`            // as it was signed: what is granted at last is held against it
	PublicKey string         `json:"public_key,omitempty"` // authorized_keys form
	Left      int            `json:"left"`                 // seconds that it waits

	end time.Time
}

// Key is the request's client key.
func (w *Waiting) Key() (ssh.PublicKey, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(w.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("background process: %w", err)
	}
	return k, nil
}

// Hold keeps the key of a signed request while it waits for approvals.
func (c *Client) Hold(ctx context.Context, key ssh.PublicKey, w *api.Waiting, login name.Login, host name.Host, statement string) error {
	_, err := c.call(ctx, request{Op: opHold, Key: fingerprint(key), Seconds: int(w.Expires.Sub(w.Now).Seconds()),
		Waiting: &Waiting{ID: w.ID, Of: w.Of, Login: login, Host: host, Rule: w.Rule, Statement: statement}})
	return err
}

// Waiting lists the requests that wait.
func (c *Client) Waiting(ctx context.Context) ([]Waiting, error) {
	a, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	return a.Waiting, nil
}

// holdRequestLocked says what a key waits for.
func (s *server) holdRequestLocked(q *request) (*Answer, error) {
	h, ok := s.keys[q.Key]
	switch {
	case !ok:
		return nil, ErrNoKey
	case q.Waiting == nil:
		return nil, fmt.Errorf("no request to wait for")
	case h.pass != nil, h.granted != nil && q.Waiting.Of != h.granted.ID:
		return nil, fmt.Errorf("%w: it has its use already", ErrForbidden)
	}
	d := time.Duration(q.Seconds) * time.Second
	if d <= 0 || d > sshcert.MaxClientLifetime {
		return nil, fmt.Errorf("a lifetime of %v", d)
	}
	w := *q.Waiting
	w.PublicKey, w.end = string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(h.key.public))), time.Now().Add(d)
	h.waiting = &w
	if h.granted == nil { // a grant's key ends with the grant, whatever its extension waits for
		s.holdLocked(h, d+holdGrace)
	}
	return &Answer{}, nil
}

// holdGrace is how long a key outlives its request's wait: the last approval may come at the last moment, and the answer after it.
const holdGrace = time.Minute
