package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/background"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
)

const (
	// pollPause is kept between two questions that were answered at once, so that a CA that can't hold the line isn't flooded.
	pollPause = time.Second
	// retryMax bounds the pause between tries while the CA can't be reached.
	retryMax = 10 * time.Second
)

// ErrWaits says that a request is not decided yet.
var ErrWaits = errors.New("the request waits still")

// ErrNotWaiting says that no such request is held on this machine.
var ErrNotWaiting = errors.New("no such request waits on this machine")

func (w *Want) kind() string {
	if w.Kind == "" {
		return statement.RequestNew
	}
	return w.Kind
}

// waiting finds a request that the background process holds.
func (a *Agent) waiting(ctx context.Context, id name.RequestID) (*background.Waiting, ssh.PublicKey, error) {
	list, err := a.cfg.Keys.Waiting(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range list {
		if w.ID == id {
			key, err := w.Key()
			return &w, key, err
		}
	}
	return nil, nil, fmt.Errorf("%w: %s", ErrNotWaiting, id)
}

// Await waits until a request that the background process holds is decided, and has it hold what was granted. show is called with each change.
// When ctx ends, the request stays where it is, and whoever calls Await next goes on with it.
func (a *Agent) Await(ctx context.Context, id name.RequestID, show func(*api.RequestState)) (*Granted, error) {
	w, key, err := a.waiting(ctx, id)
	if err != nil {
		return nil, err
	}
	signer := a.cfg.Keys.Signer(key)
	var known int64
	retry := pollPause
	for {
		began := time.Now()
		st, err := a.cfg.Await(ctx, signer, id, api.MaxWait, known)
		pause := pollPause - time.Since(began)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case unheard(err): // the request waits there; so do we
			pause, retry = retry, min(2*retry, retryMax)
		case err != nil:
			return nil, err
		case st.Problem != nil:
			_ = a.cfg.Keys.End(context.WithoutCancel(ctx), id)
			return nil, st.Problem
		case st.Granted != nil && st.State == "allowed":
			return a.granted(ctx, w, key, st)
		case st.Granted != nil: // it was let in, and is over: stopped, or nobody fetched it in time
			_ = a.cfg.Keys.End(context.WithoutCancel(ctx), id)
			return nil, &api.Problem{Status: 410, Code: api.CodeGrantEnded, Detail: fmt.Sprintf("%s was let in, and is %s", id, st.State), Request: id,
				Next: []string{fmt.Sprintf("breakglass request %s@%s", w.Login, w.Host)}}
		case st.Waiting == nil:
			return nil, fmt.Errorf("%w: request %s is %q", ErrAnswer, id, st.State)
		default:
			retry = pollPause
			if st.Version != known {
				known, pause = st.Version, 0
				show(st)
			}
		}
		if pause > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(pause):
			}
		}
	}
}

// lookTime bounds a look at a request: a CA that does not answer leaves it waiting.
const lookTime = 5 * time.Second

// Look gives what became of a request that the background process holds, and ErrWaits while it waits.
func (a *Agent) Look(ctx context.Context, id name.RequestID) (*Granted, error) {
	looking, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	g, err := a.Await(looking, id, func(*api.RequestState) { cancel() })
	if looking.Err() != nil && ctx.Err() == nil && g == nil {
		return nil, fmt.Errorf("%w: %s", ErrWaits, id)
	}
	return g, err
}

// granted holds what was granted at last against the statement that was signed at first.
func (a *Agent) granted(ctx context.Context, w *background.Waiting, key ssh.PublicKey, st *api.RequestState) (*Granted, error) {
	var signed statement.Request
	if err := statement.Parse([]byte(w.Statement), &signed); err != nil {
		return nil, fmt.Errorf("background process: %w", err)
	}
	g := st.Granted
	if signed.Request == statement.RequestExtend {
		return a.extended(ctx, &signed, key, g, g.Until.Sub(st.Now))
	}
	if err := CheckGranted(g, &signed, key, a.cfg.Seen().Site); err != nil {
		return nil, err
	}
	return a.install(ctx, key, g, g.Until.Sub(st.Now))
}

// Override goes on without the approvals that a request of this machine still lacks: a second touch, over the same words.
func (a *Agent) Override(ctx context.Context, id name.RequestID) (*Granted, error) {
	w, key, err := a.waiting(ctx, id)
	if err != nil {
		return nil, err
	}
	var first statement.Request
	if err := statement.Parse([]byte(w.Statement), &first); err != nil {
		return nil, fmt.Errorf("background process: %w", err)
	}
	_, _, seen, s, err := a.signRequest(ctx, again(&first, statement.RequestOverride, id), key)
	if err != nil {
		return nil, err
	}
	g, err := a.cfg.CA.SignRequest(ctx, s.id, api.Signed{SSHSIG: s.armor})
	if unheard(err) {
		g, err = a.lost(ctx, id, key, err)
	}
	if err != nil {
		return nil, err
	}
	if first.Request == statement.RequestExtend {
		return a.extended(ctx, &first, key, g, g.Until.Sub(s.issued))
	}
	if err := CheckGranted(g, &first, key, seen.Site); err != nil {
		return nil, err
	}
	return a.install(ctx, key, g, g.Until.Sub(s.issued))
}

// again asks for what a statement asks for.
func again(st *statement.Request, kind string, of name.RequestID) Want {
	return Want{Kind: kind, Of: of, Person: st.Person, Login: st.Login, Host: st.Host, Minutes: st.Minutes, Reason: st.Reason, Ticket: st.Ticket,
		Failure: st.Failure, Severity: st.Severity, Forwards: st.Forwards, Drill: st.Drill}
}

// Extend asks for a later end of a grant of this machine. reason "" repeats the grant's; minutes 0 are what the rule gives. Where it needs approvals, the
// error is an *api.Waiting, and Await goes on.
func (a *Agent) Extend(ctx context.Context, g *background.Grant, minutes int, reason, code string) (*Granted, error) {
	key, err := grantKey(g.Certificate)
	if err != nil {
		return nil, err
	}
	st, err := a.cfg.State(ctx, a.cfg.Keys.Signer(key), g.ID)
	if err != nil {
		return nil, err
	}
	// The CA says what was signed then; the person sees it again in the statement, and of whom, where and for which key this machine knows itself.
	var first statement.Request
	if err := statement.Parse([]byte(st.Statement), &first); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if first.ID != g.ID || first.Person != g.Person || first.Login != g.Login || first.Host != g.Host || first.ClientKey != ssh.FingerprintSHA256(key) {
		return nil, fmt.Errorf("%w: %s was asked for %s@%s by %s", ErrAnswer, first.ID, first.Login, first.Host, first.Person)
	}
	for _, fw := range first.Forwards { // all that is asked for is granted, or nothing
		if !slices.Contains(g.Forwards, fw) {
			return nil, fmt.Errorf("%w: %s was asked for with the forward %q, which was not granted", ErrAnswer, first.ID, fw)
		}
	}
	w := again(&first, statement.RequestExtend, g.ID)
	w.Minutes, w.Code = minutes, code
	if reason != "" {
		w.Reason = reason
	}
	ext, text, _, s, err := a.signRequest(ctx, w, key)
	if err != nil {
		return nil, err
	}
	got, err := a.cfg.CA.SignRequest(ctx, s.id, api.Signed{SSHSIG: s.armor, TOTP: w.Code})
	if unheard(err) {
		got, err = a.lost(ctx, ext.ID, key, err)
	}
	if waits, ok := client.NotGranted(err); ok {
		if waits.ID != ext.ID || waits.Of != g.ID {
			return nil, fmt.Errorf("%w: %s waits", ErrAnswer, waits.ID)
		}
		if err := a.cfg.Keys.Hold(ctx, key, waits, ext.Login, ext.Host, text); err != nil {
			return nil, err
		}
		return nil, waits
	}
	if err != nil {
		return nil, err
	}
	return a.extended(ctx, ext, key, got, got.Until.Sub(s.issued))
}

// extended holds an extension's answer against what was signed, and against the grant that it extends: the same id, key, place and addresses, a later end.
func (a *Agent) extended(ctx context.Context, ext *statement.Request, key ssh.PublicKey, got *api.Granted, left time.Duration) (*Granted, error) {
	list, _, err := a.cfg.Keys.Grants(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		g := &list[i]
		if g.ID != ext.Of {
			continue
		}
		from, err := grantSources(g.Certificate)
		if err != nil {
			return nil, err
		}
		st := *ext
		st.ID, st.Sources, st.Forwards = g.ID, nil, g.Forwards
		for _, addr := range from {
			st.Sources = append(st.Sources, addr.String())
		}
		if err := CheckGranted(got, &st, key, a.cfg.Seen().Site); err != nil {
			return nil, err
		}
		if !got.Until.After(g.Until) {
			return nil, fmt.Errorf("%w: extended until %s, it lasted until %s", ErrAnswer, got.Until.UTC(), g.Until.UTC())
		}
		return a.install(ctx, key, got, left)
	}
	return nil, background.ErrNoKey
}

func grantKey(certificate string) (ssh.PublicKey, error) {
	c, err := sshcert.Parse([]byte(certificate))
	if err != nil {
		return nil, err
	}
	return c.Key, nil
}

func grantSources(certificate string) ([]netip.Addr, error) {
	c, err := sshcert.Parse([]byte(certificate))
	if err != nil {
		return nil, err
	}
	return sshcert.ParseSources(c.CriticalOptions[sshcert.OptionSourceAddress])
}
