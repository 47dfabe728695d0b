package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/background"
	"breakglass/agent/keys"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

const (
	// askAgain is how often a statement that ended unsigned (a slow PIN, a slow line) is replaced by a new one.
	askAgain = 3
	// sendTime is kept back from a statement's validity for the signature's way to the CA.
	sendTime = 3 * time.Second
)

// Config of an Agent.
type Config struct {
	CA     CA
	Signer keys.Signer
	// Keys holds client keys and pass keys.
	Keys *background.Client
	// Seen says what is known of the CA; it is asked at each statement.
	Seen func() Seen
	// State reads what became of a request, the call signed by its client key; nil: an answer that is lost on the way stays lost.
	State func(ctx context.Context, signer ssh.Signer, id name.RequestID) (*api.RequestState, error)
	// Await reads it once it is another than the version that is known, or after wait.
	Await func(ctx context.Context, signer ssh.Signer, id name.RequestID, wait time.Duration, since int64) (*api.RequestState, error)
	// Show is called with each statement before a key is asked; nil is nobody.
	Show func(statement string)
	// Name is what this machine calls an enrolled key (authorized_keys form); "" is what the CA calls it. nil knows none.
	Name func(publicKey string) name.Key
	// Warn tells the person something that decides nothing; nil is nobody.
	Warn func(text string)
	// Now is this machine's clock; nil is time.Now. It serves to warn of a wrong one.
	Now func() time.Time
}

// Agent asks on behalf of one person.
type Agent struct {
	cfg  Config
	code string // of the other channel, with an enrolment
}

// New makes an Agent.
func New(cfg Config) *Agent {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Agent{cfg: cfg}
}

// signed is a challenge that was checked and signed.
type signed struct {
	id     string
	armor  string
	issued time.Time
}

// sign asks for a statement, checks it, and has a key sign it. A statement that ends meanwhile is replaced.
func (a *Agent) sign(ctx context.Context, get func() (*api.Challenge, error), check func(*api.Challenge) (statement.Statement, error)) (signed, error) {
	for range askAgain {
		ch, err := get()
		if err != nil {
			return signed{}, err
		}
		// Its validity is counted from here on our monotonic clock: the wall clock of this machine may be wrong.
		got := time.Now()
		st, err := check(ch)
		if err != nil {
			return signed{}, err
		}
		head, _ := statement.HeadOf(st)
		a.clock(head.Issued)
		if a.cfg.Show != nil {
			a.cfg.Show(ch.Statement)
		}
		a.callThem(ch.Keys)
		sctx, cancel := context.WithDeadline(ctx, got.Add(head.Expires.Sub(head.Issued)-sendTime))
		sig, err := a.cfg.Signer.Sign(sctx, []byte(ch.Statement), ch.Namespace, ch.Keys)
		late := sctx.Err() != nil
		cancel()
		if err == nil {
			return signed{ch.ID, string(sig.Armor()), head.Issued}, nil
		}
		if ctx.Err() != nil || !late {
			return signed{}, err
		}
	}
	return signed{}, ErrTooSlow
}

// callThem puts the names of this machine in the place of the CA's, which calls everybody's keys key-1, key-2 …
func (a *Agent) callThem(ks []api.KeyHandle) {
	if a.cfg.Name == nil {
		return
	}
	for i := range ks {
		if n := a.cfg.Name(ks[i].PublicKey); n != "" {
			ks[i].Name = n
		}
	}
}

// clock warns of a clock that is off: it explains what ssh and logs will show, and decides nothing.
func (a *Agent) clock(issued time.Time) {
	if off := a.cfg.Now().Sub(issued).Round(time.Second); a.cfg.Warn != nil && (off > ClockSkew || off < -ClockSkew) {
		a.cfg.Warn(fmt.Sprintf("this machine's clock says %s, the CA's %s (%v off); the CA's counts", a.cfg.Now().UTC().Format(time.RFC3339), issued.UTC().Format(time.RFC3339), off))
	}
}

// Granted is a request that was allowed, ready for ssh.
type Granted struct {
	*api.Granted
	Socket string        // the ssh-agent that holds its certificate
	Left   time.Duration // by the CA's clock
}

// Request asks for login@host and, once allowed, has the background process hold key and certificate. Where it needs approvals, the background
// process holds the key, and the error is an *api.Waiting: Await goes on.
func (a *Agent) Request(ctx context.Context, w Want) (*Granted, error) {
	key, err := a.cfg.Keys.NewKey(ctx)
	if err != nil {
		return nil, err
	}
	g, err := a.request(ctx, w, key)
	if _, waits := client.NotGranted(err); err != nil && !waits {
		// With a context of its own: the person's Ctrl-C ends ctx, and the key should go all the same.
		_ = a.cfg.Keys.Drop(context.WithoutCancel(ctx), key)
	}
	return g, err
}

func (a *Agent) request(ctx context.Context, w Want, key ssh.PublicKey) (*Granted, error) {
	st, text, seen, s, err := a.signRequest(ctx, w, key)
	if err != nil {
		return nil, err
	}
	g, err := a.cfg.CA.SignRequest(ctx, s.id, api.Signed{SSHSIG: s.armor, TOTP: w.Code})
	if unheard(err) {
		g, err = a.lost(ctx, st.ID, key, err)
	}
	if waits, ok := client.NotGranted(err); ok {
		if waits.ID != st.ID {
			return nil, fmt.Errorf("%w: %s waits", ErrAnswer, waits.ID)
		}
		if err := a.cfg.Keys.Hold(ctx, key, waits, st.Login, st.Host, text); err != nil {
			return nil, err
		}
		return nil, waits
	}
	if err != nil {
		return nil, err
	}
	if err := CheckGranted(g, st, key, seen.Site); err != nil {
		return nil, err
	}
	return a.install(ctx, key, g, g.Until.Sub(s.issued))
}

// signRequest has a statement of w checked and signed.
func (a *Agent) signRequest(ctx context.Context, w Want, key ssh.PublicKey) (st *statement.Request, text string, seen Seen, s signed, err error) {
	s, err = a.sign(ctx, func() (*api.Challenge, error) {
		// For each statement anew: the CA's tokens end with a statement's time, and a slow touch is followed by another statement.
		var tokens []string
		if w.kind() == statement.RequestNew { // an override or an extension goes on with the addresses of what it is of
			w.seen = a.cfg.CA.Seen(ctx, authorized(key))
		}
		for _, x := range w.seen {
			tokens = append(tokens, x.Token)
		}
		return a.cfg.CA.Ask(ctx, api.Ask{
			Seen: tokens,
			Kind: w.Kind, Of: w.Of, Person: string(w.Person), Login: string(w.Login), Host: string(w.Host), Minutes: w.Minutes, Reason: w.Reason, Ticket: w.Ticket,
			Failure: w.Failure, Severity: w.Severity, Forwards: w.Forwards, Drill: w.Drill, ClientKey: authorized(key),
		})
	}, func(ch *api.Challenge) (statement.Statement, error) {
		seen, text = a.cfg.Seen(), ch.Statement
		st, err = CheckRequest(ch, w, key, seen)
		return st, err
	})
	return st, text, seen, s, err
}

// install has the background process hold a grant's certificate.
func (a *Agent) install(ctx context.Context, key ssh.PublicKey, g *api.Granted, left time.Duration) (*Granted, error) {
	socket, err := a.cfg.Keys.Install(ctx, key, g, left)
	if err != nil {
		return nil, err
	}
	return &Granted{g, socket, left}, nil
}

// unheard says that the CA may have decided without our hearing it: the line broke, or its ledger did at that moment.
func unheard(err error) bool {
	p := new(api.Problem)
	return errors.Is(err, client.ErrUnreachable) || errors.As(err, &p) && p.Code == api.CodeUnknown
}

// lost asks for an answer that didn't arrive: the line may have broken after the CA had decided, and a second touch would open a
// second grant.
func (a *Agent) lost(ctx context.Context, id name.RequestID, key ssh.PublicKey, cause error) (*api.Granted, error) {
	if a.cfg.State == nil {
		return nil, cause
	}
	for _, wait := range []time.Duration{200 * time.Millisecond, time.Second, 3 * time.Second} {
		select {
		case <-ctx.Done():
			return nil, cause
		case <-time.After(wait):
		}
		st, err := a.cfg.State(ctx, a.cfg.Keys.Signer(key), id)
		switch {
		case unheard(err):
		case err != nil: // the CA knows nothing of it: the signature never arrived
			return nil, cause
		case st.Granted != nil:
			return st.Granted, nil
		case st.Problem != nil:
			return nil, st.Problem
		case st.Waiting != nil:
			return nil, st.Waiting
		}
	}
	return nil, cause
}

// Pass has a key of the background process read for 15 minutes, and returns a signer of calls with it. One that is alive is used again.
func (a *Agent) Pass(ctx context.Context, person name.Person) (ssh.Signer, error) {
	_, live, err := a.cfg.Keys.Grants(ctx)
	if err != nil {
		return nil, err
	}
	const enough = time.Minute
	if live != nil && live.Person == person && time.Duration(live.Left)*time.Second > enough {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(live.PublicKey))
		if err != nil {
			return nil, fmt.Errorf("background process: %w", err)
		}
		return a.cfg.Keys.Signer(k), nil
	}
	key, err := a.cfg.Keys.NewKey(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.pass(ctx, person, key); err != nil {
		_ = a.cfg.Keys.Drop(context.WithoutCancel(ctx), key)
		return nil, err
	}
	return a.cfg.Keys.Signer(key), nil
}

func (a *Agent) pass(ctx context.Context, person name.Person, key ssh.PublicKey) error {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return a.cfg.CA.Pass(ctx, api.PassAsk{Person: string(person), Holder: authorized(key)})
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckPass(ch, person, authorized(key), a.cfg.Seen())
	})
	if err != nil {
		return err
	}
	p, err := a.cfg.CA.SignPass(ctx, s.id, api.Signed{SSHSIG: s.armor})
	if err != nil {
		return err
	}
	return a.cfg.Keys.InstallPass(ctx, key, person, p.Until, p.Until.Sub(s.issued))
}

// Recipient has the person's key name an age public key as theirs.
func (a *Agent) Recipient(ctx context.Context, q api.RecipientAsk) (*api.RecipientState, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return a.cfg.CA.Recipient(ctx, q)
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckRecipient(ch, q, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return a.cfg.CA.SignRecipient(ctx, s.id, api.Signed{SSHSIG: s.armor})
}

// authorized writes a key as authorized_keys has it, without a comment.
func authorized(k ssh.PublicKey) string { return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k))) }
