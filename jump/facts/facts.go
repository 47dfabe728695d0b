// Package facts is a jump's own book: what it decided or saw, as statements that it signed.
//
// Guarantees, to the auditor: facts are numbered from 1 without a gap, each names the hash of the one before, and each is
// durable in the journal before Append returns, so before anything that follows from it. They reach the CA in order, late if it
// was away; a fact leaves the journal only when the CA said that it has it, and the newest never does, so that the chain
// goes on after a restart.
package facts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
)

const (
	// Kind is the journal kind of a fact: its data is the JSON of an api.SignedStatement.
	Kind journal.Kind = 0x10
	// maxBatch keeps a delivery below api.MaxBody: statements are escaped in JSON, by a few bytes a line.
	maxBatch = api.MaxBody / 2
	// sendTimeout bounds one delivery, so that a CA that hangs is asked again.
	sendTimeout = 15 * time.Second
	// maxWait is the longest pause between deliveries that failed.
	maxWait = 10 * time.Second
)

// Stream is the facts' stream in the journal. A session's id is drawn at random and is never this.
var Stream = journal.SID{'f', 'a', 'c', 't', 's'}

// ErrForgot says that the CA knows facts under our name that the journal doesn't: it was lost or put back.
var ErrForgot = errors.New("the CA has facts of this jump that its journal lacks")

// Sender delivers facts.
type Sender interface {
	// SendFacts delivers facts in order; the answer says up to which number the CA has them. An empty delivery only asks.
	SendFacts(ctx context.Context, ask *api.FactsAsk) (*api.FactsAnswer, error)
}

// Config says whose facts they are.
type Config struct {
	Jump    name.Jump
	Origin  string
	Signer  ssh.Signer // the jump's key
	Journal *journal.Journal
	Sender  Sender
	Now     func() time.Time
	Logger  *slog.Logger
}

// Book is open until the journal closes.
type Book struct {
	cfg Config

	mu       sync.Mutex
	number   int64 // of the last fact
	hash     statement.Hash
	entry    uint64 // the journal's number of the last fact's entry
	queue    []pending
	acked    int64
	reported map[name.SessionID]int64 // sessions whose end is in the journal's facts
	changed  chan struct{}            // closed and made anew when queue or acked change
}

type pending struct {
	number int64
	entry  uint64
	signed api.SignedStatement
}

// Open reads what the journal holds.
func Open(cfg Config) (*Book, error) {
	b := &Book{cfg: cfg, reported: map[name.SessionID]int64{}, changed: make(chan struct{})}
	for e, err := range cfg.Journal.Read(Stream) {
		if err != nil {
			return nil, fmt.Errorf("reading the jump's facts: %w", err)
		}
		var s api.SignedStatement
		if err := json.Unmarshal(e.Data, &s); err != nil || e.Kind != Kind {
			return nil, fmt.Errorf("reading the jump's facts: entry %d is none", e.N)
		}
		var f statement.Fact
		if err := statement.Parse([]byte(s.Statement), &f); err != nil {
			return nil, fmt.Errorf("reading the jump's facts: %w", err)
		}
		if f.Machine != string(cfg.Jump) || f.Origin != cfg.Origin {
			return nil, fmt.Errorf("reading the jump's facts: they are %s's of %s", f.Machine, f.Origin)
		}
		if len(b.queue) > 0 && (f.Number != b.number+1 || f.Previous != b.hash) {
			return nil, fmt.Errorf("reading the jump's facts: fact %d does not follow fact %d", f.Number, b.number)
		}
		b.note(f, s, e.N)
	}
	if len(b.queue) > 0 {
		b.acked = b.queue[0].number - 1
	}
	return b, nil
}

func (b *Book) note(f statement.Fact, s api.SignedStatement, entry uint64) {
	b.number, b.hash, b.entry = f.Number, sha256.Sum256([]byte(s.Statement)), entry
	if f.Type == string((&ledger.SessionEnded{}).EntryType()) || f.Type == string((&ledger.SessionCrashed{}).EntryType()) {
		b.reported[f.Session] = f.Number
	}
	b.queue = append(b.queue, pending{f.Number, entry, s})
}

// Head is the number and hash of the last fact, as a session's question names it.
func (b *Book) Head() statement.Checkpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	return statement.Checkpoint{Size: b.number, Root: b.hash}
}

// Acked is the number of the last fact that the CA has.
func (b *Book) Acked() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acked
}

// Waiting is how many facts the CA doesn't have yet.
func (b *Book) Waiting() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.number - b.acked
}

// Reported gives the number of the fact that told the session's end, or 0.
func (b *Book) Reported(s name.SessionID) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reported[s]
}

// Append signs a fact and makes it durable. then, if not nil, runs before the fact can be sent: what it writes is on the
// disk before the fact may be forgotten here.
func (b *Book) Append(f ledger.Facts, session name.SessionID, then func(number int64) error) (int64, error) {
	body, err := ascii(f)
	if err != nil {
		return 0, fmt.Errorf("recording %s: %w", f.EntryType(), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	st := statement.Fact{
		Origin: b.cfg.Origin, Machine: string(b.cfg.Jump), Number: b.number + 1, Previous: b.hash,
		Time: b.cfg.Now().UTC().Truncate(time.Second), Type: string(f.EntryType()), Session: session, Body: body,
	}
	text, err := statement.Marshal(&st)
	if err != nil {
		return 0, fmt.Errorf("recording %s: %w", f.EntryType(), err)
	}
	sig, err := sshsig.Sign(b.cfg.Signer, statement.KindFact.Namespace(), text)
	if err != nil {
		return 0, fmt.Errorf("recording %s: %w", f.EntryType(), err)
	}
	s := api.SignedStatement{Statement: string(text), SSHSIG: string(sig.Armor())}
	data, err := json.Marshal(s)
	if err != nil {
		return 0, fmt.Errorf("recording %s: %w", f.EntryType(), err)
	}
	// Last: an end must be told even when there is no room for more sessions.
	if err := b.cfg.Journal.Append(journal.Entry{Stream: Stream, Kind: Kind, Data: data, Last: true}); err != nil {
		return 0, fmt.Errorf("recording %s: %w", f.EntryType(), err)
	}
	entry := uint64(0)
	if b.number > 0 {
		entry = b.entry + 1
	}
	b.note(st, s, entry)
	if then != nil {
		err = then(st.Number)
	}
	b.wake()
	return st.Number, err
}

// ascii is the facts as one line of JSON without any byte that a statement's line may not hold.
func ascii(f ledger.Facts) (string, error) {
	raw, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for _, r := range string(raw) {
		switch {
		case r < 0x7f:
			out.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return out.String(), nil
}

func (b *Book) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// WaitAcked returns when the CA has fact n.
func (b *Book) WaitAcked(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		done, changed := b.acked >= n, b.changed
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run is the one sender: it delivers facts in order until ctx ends. It returns earlier only with ErrForgot.
func (b *Book) Run(ctx context.Context) error {
	if err := b.deliver(ctx, true); err != nil {
		return err
	}
	for {
		b.mu.Lock()
		more, changed := b.number > b.acked, b.changed
		b.mu.Unlock()
		if more {
			if err := b.deliver(ctx, false); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// deliver sends what the CA lacks, or only asks what it has, until that worked.
func (b *Book) deliver(ctx context.Context, ask bool) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, maxWait
	for {
		err := b.once(ctx, ask)
		if err == nil || errors.Is(err, ErrForgot) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var p *api.Problem
		if errors.As(err, &p) && p.Status < 500 {
			// It stands in the way of all that come after it, and says that one of the two sides is broken: an operator's matter.
			b.cfg.Logger.Error("the CA refuses a fact", "error", err)
		} else {
			b.cfg.Logger.Warn("facts not delivered", "error", err)
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *Book) once(ctx context.Context, ask bool) error {
	var batch api.FactsAsk
	b.mu.Lock()
	last := b.number
	if !ask {
		size := 0
		for _, p := range b.queue {
			if p.number <= b.acked {
				continue
			}
			if size += len(p.signed.Statement) + len(p.signed.SSHSIG); size > maxBatch && len(batch.Facts) > 0 {
				break
			}
			batch.Facts = append(batch.Facts, p.signed)
		}
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	a, err := b.cfg.Sender.SendFacts(ctx, &batch)
	if err != nil {
		return err
	}
	if a.Number > last {
		return fmt.Errorf("%w: %d there, %d here", ErrForgot, a.Number, last)
	}
	return b.ack(a)
}

// ack forgets what the CA has, but the newest.
func (b *Book) ack(a *api.FactsAnswer) error {
	b.mu.Lock()
	var trim uint64
	for _, p := range b.queue {
		if p.number == a.Number && a.Hash != (statement.Hash{}) && a.Hash != sha256.Sum256([]byte(p.signed.Statement)) {
			b.mu.Unlock()
			return fmt.Errorf("%w: another fact %d", ErrForgot, a.Number)
		}
	}
	for len(b.queue) > 1 && b.queue[0].number <= a.Number {
		trim = b.queue[0].entry + 1
		b.queue = b.queue[1:]
	}
	if a.Number > b.acked {
		b.acked = a.Number
		b.wake()
	}
	b.mu.Unlock()
	if trim == 0 {
		return nil
	}
	if err := b.cfg.Journal.Trim(Stream, trim); err != nil {
		b.cfg.Logger.Warn("facts not trimmed", "error", err)
	}
	return nil
}
