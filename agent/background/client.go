package background

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/internal/name"
)

const (
	// startWait is how long a started process may take until it answers.
	startWait = 5 * time.Second
	// callTimeout bounds one question; all answers come out of memory.
	callTimeout = 5 * time.Second
)

// Client asks the background process.
type Client struct {
	Home home.Home
	// Start starts the process detached; nil: a missing one is ErrNotRunning. Start in this package does it.
	Start func(home.Home) error
}

// call asks one question. The process may be ending while we ask, so one that closes without an answer is asked once more.
func (c *Client) call(ctx context.Context, q request) (*Answer, error) {
	q.Version = version
	line, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("asking the background process: %w", err)
	}
	a, err := c.once(ctx, line)
	if errors.Is(err, io.EOF) || errors.Is(err, ErrNotRunning) {
		if c.Start == nil {
			return nil, ErrNotRunning
		}
		if err := c.begin(ctx); err != nil {
			return nil, err
		}
		a, err = c.once(ctx, line)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the background process: %w", err)
	}
	switch {
	case a.Code == "no_key":
		return nil, ErrNoKey
	case a.Code == "forbidden":
		return nil, fmt.Errorf("background process: %w (%s)", ErrForbidden, a.Error)
	case a.Error != "":
		return nil, fmt.Errorf("background process: %s", a.Error)
	}
	return a, nil
}

func (c *Client) once(ctx context.Context, line []byte) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Home.Socket(controlName))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, ErrNotRunning
	}
	defer conn.Close()
	// Whoever listens there is to be this user: a key's public half from a stranger's process would be the stranger's.
	if err := checkPeer(conn); err != nil {
		return nil, err
	}
	if dl, ok := ctx.Deadline(); ok {
		conn.SetDeadline(dl)
	}
	if _, err := conn.Write(append(slices.Clone(line), '\n')); err != nil {
		return nil, io.EOF // it closed before it read
	}
	sc := bufio.NewScanner(conn)
	sc.Buffer(nil, maxLine)
	if !sc.Scan() {
		if err := sc.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	var a Answer
	d := json.NewDecoder(bytes.NewReader(sc.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return &a, nil
}

// begin starts the process and waits until it listens. Two may be started at once: one takes the lock, the other leaves.
func (c *Client) begin(ctx context.Context) error {
	if err := c.Home.MakeRun(); err != nil {
		return err
	}
	if err := c.Start(c.Home); err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	again := time.Now().Add(startWait / 3)
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Home.Socket(controlName))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("starting the background process: it does not answer on %s", c.Home.Socket(controlName))
		case <-time.After(5 * time.Millisecond):
		}
		// The one that held the lock when ours came may have been leaving.
		if time.Now().After(again) {
			again = again.Add(startWait / 3)
			if err := c.Start(c.Home); err != nil {
				return fmt.Errorf("starting the background process: %w", err)
			}
		}
	}
}

// NewKey has a key made and gives its public half.
func (c *Client) NewKey(ctx context.Context) (ssh.PublicKey, error) {
	a, err := c.call(ctx, request{Op: opNewKey})
	if err != nil {
		return nil, err
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("background process: %w", err)
	}
	return k, nil
}

// Install gives a key its certificate for as long as left, and returns the path of its ssh-agent.
func (c *Client) Install(ctx context.Context, key ssh.PublicKey, g *api.Granted, left time.Duration) (string, error) {
	a, err := c.call(ctx, request{Op: opInstall, Key: fingerprint(key), Granted: g, Seconds: int(left.Seconds())})
	if err != nil {
		return "", err
	}
	return a.Socket, nil
}

// InstallPass makes a key the holder of a pass.
func (c *Client) InstallPass(ctx context.Context, key ssh.PublicKey, p name.Person, until time.Time, left time.Duration) error {
	_, err := c.call(ctx, request{Op: opInstallPass, Key: fingerprint(key), Person: p, Until: until, Seconds: int(left.Seconds())})
	return err
}

// Grants lists what is alive, the one that ends last first.
func (c *Client) Grants(ctx context.Context) ([]Grant, *Pass, error) {
	a, err := c.list(ctx)
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(a.Grants, func(x, y Grant) int { return cmp.Or(cmp.Compare(y.Left, x.Left), cmp.Compare(x.ID, y.ID)) })
	return a.Grants, a.Pass, nil
}

func (c *Client) list(ctx context.Context) (*Answer, error) {
	quiet := *c
	quiet.Start = nil // nothing running, nothing alive
	a, err := quiet.call(ctx, request{Op: opList})
	if errors.Is(err, ErrNotRunning) {
		return &Answer{}, nil
	}
	return a, err
}

// Live finds the grant for login@host that has at least need left; nil is none.
func (c *Client) Live(ctx context.Context, l name.Login, h name.Host, need time.Duration) (*Grant, error) {
	gs, _, err := c.Grants(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range gs {
		if g.Login == l && g.Host == h && g.Socket != "" && time.Duration(g.Left)*time.Second >= need {
			return &g, nil
		}
	}
	return nil, nil
}

// End wipes a grant's key.
func (c *Client) End(ctx context.Context, r name.RequestID) error {
	_, err := c.call(ctx, request{Op: opEnd, Request: r})
	return err
}

// Drop wipes a key that came to nothing.
func (c *Client) Drop(ctx context.Context, key ssh.PublicKey) error {
	_, err := c.call(ctx, request{Op: opDrop, Key: fingerprint(key)})
	return err
}

// Stop ends the process with all that it holds.
func (c *Client) Stop(ctx context.Context) error {
	quiet := *c
	quiet.Start = nil
	_, err := quiet.call(ctx, request{Op: opStop})
	return err
}

// Signer signs calls with a key that the background process holds.
func (c *Client) Signer(key ssh.PublicKey) ssh.Signer { return &remoteKey{c, key} }

func (r *remoteKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	a, err := r.client.call(context.Background(), request{Op: opSign, Key: fingerprint(r.public), Data: data})
	if err != nil {
		return nil, err
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(a.Signature, &sig); err != nil {
		return nil, fmt.Errorf("background process: %w", err)
	}
	return &sig, nil
}
