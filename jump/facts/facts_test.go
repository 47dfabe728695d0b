package facts

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
)

// book is a CA's side: it takes facts in order, or fails.
type book struct {
	t    *testing.T
	key  ssh.PublicKey
	mu   sync.Mutex
	down bool
	have []statement.Fact
	hash statement.Hash
}

func (b *book) SendFacts(_ context.Context, ask *api.FactsAsk) (*api.FactsAnswer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return nil, errors.New("down")
	}
	for _, s := range ask.Facts {
		var f statement.Fact
		if err := statement.Parse([]byte(s.Statement), &f); err != nil {
			b.t.Error(err)
		}
		sig, err := sshsig.Parse([]byte(s.SSHSIG))
		if err != nil || sig.Verify(b.key, statement.KindFact.Namespace(), []byte(s.Statement)) != nil {
			b.t.Errorf("fact %d is not signed: %v", f.Number, err)
		}
		if f.Number <= int64(len(b.have)) {
			continue
		}
		if f.Number != int64(len(b.have))+1 || f.Previous != b.hash {
			b.t.Errorf("fact %d after %d", f.Number, len(b.have))
		}
		b.have, b.hash = append(b.have, f), sha256.Sum256([]byte(s.Statement))
	}
	return &api.FactsAnswer{Number: int64(len(b.have)), Hash: b.hash}, nil
}

func TestFactsGoOnAfterARestartWithoutAGap(t *testing.T) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	ca := &book{t: t, key: key.PublicKey()}
	dir := t.TempDir()
	last := int64(0)
	for round := range 4 {
		j, _, err := journal.Open(journal.Config{Dir: dir, SegmentSize: 1 << 20, Segments: 3})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Open(Config{Jump: "jump-a", Origin: "o", Signer: key, Journal: j, Sender: ca, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if b.Head().Size != last {
			t.Fatalf("round %d begins after fact %d, want %d", round, b.Head().Size, last)
		}
		ca.mu.Lock()
		ca.down = round%2 == 1 // every second run the CA is away: what it missed comes in the next
		ca.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		for range 5 {
			marked := false
			// Text outside ASCII survives in a statement's one line.
			n, err := b.Append(&ledger.SessionEnded{Reason: "clös\u202eed\x7f😀"}, "k7f-2mq/1", func(int64) error { marked = true; return nil })
			if err != nil || n != last+1 || !marked {
				t.Fatalf("fact %d, %v, marked %v", n, err, marked)
			}
			last = n
		}
		if b.Reported("k7f-2mq/1") != last {
			t.Error("the session's end is not known as told")
		}
		if !ca.down {
			wait, stop := context.WithTimeout(ctx, 5*time.Second)
			if err := b.WaitAcked(wait, last); err != nil {
				t.Fatal(err)
			}
			stop()
		}
		cancel()
		<-done
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(ca.have) != 15 { // the last round's wait for the next
		t.Errorf("the CA has %d facts", len(ca.have))
	}
	f, err := ledger.DecodeFacts("session.ended", []byte(ca.have[0].Body))
	if err != nil || f.(*ledger.SessionEnded).Reason != "clös\u202eed\x7f😀" {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestAJournalThatForgot(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(rand.Reader)
	key, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := journal.Open(journal.Config{Dir: t.TempDir(), SegmentSize: 1 << 20, Segments: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ca := &book{t: t, key: key.PublicKey(), have: make([]statement.Fact, 7)}
	b, err := Open(Config{Jump: "jump-a", Origin: "o", Signer: key, Journal: j, Sender: ca, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); !errors.Is(err, ErrForgot) {
		t.Errorf("Run: %v", err)
	}
}
