package witness

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// CA is what a witness asks of the CA; ca/api/client meets it.
type CA interface {
	// WitnessHead waits for a signed head of more than after entries, or returns the newest when the wait is over.
	WitnessHead(ctx context.Context, after int64, wait time.Duration) (signed string, err error)
	// EntryBundle gives a bundle of entries, whole or in part (ledger.Bundle).
	EntryBundle(ctx context.Context, t ledger.Tile) ([]byte, error)
	// Cosign hands in a head with our cosignature.
	Cosign(ctx context.Context, signed string) error
}

// Config says whose witness this is.
type Config struct {
	Dir       string
	Jump      name.Jump
	Origin    string
	LedgerKey string
	// Key is the jump's, ed25519: it also signs its facts (ledger.JumpWitness says why that is safe).
	Key    ssh.Signer
	CA     CA
	Logger *slog.Logger
	// Behind, if not nil, is told when the CA's head is an older one of the same history: it was restored from an old copy, and the rest can be had here.
	Behind func(ctx context.Context, head ledger.Checkpoint, m *Mirror)
	// Refused, if not nil, is told of a head that doesn't continue what was cosigned. Both are notes.
	Refused func(ctx context.Context, cosigned, refused string)
}

// Errors that tell why a head isn't cosigned.
var (
	// ErrFork: the CA shows another history than the one that was cosigned.
	ErrFork = errors.New("the CA's ledger is not the one that was cosigned")
	// ErrBehind: the CA's head is an older one of the same history.
	ErrBehind = errors.New("the CA's ledger is shorter than what was cosigned")
)

const (
	// wait bounds a call that waits for a head.
	wait = 20 * time.Second
	// firstPause and maxPause are between attempts that failed.
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
	// bundleTimeout bounds a call for entries.
	bundleTimeout = 30 * time.Second
)

// Status is how the witness stands.
type Status struct {
	Size    int64     `json:"size"`              // entries cosigned, and kept
	At      time.Time `json:"at,omitzero"`       // when the newest was cosigned in this run
	Problem string    `json:"problem,omitempty"` // why nothing newer is
}

// Witness cosigns until its context ends.
type Witness struct {
	cfg    Config
	mirror *Mirror
	signer *torchwood.CosignatureSigner

	mu     sync.Mutex
	status Status
}

// New opens the copy of the ledger.
func New(cfg Config) (*Witness, error) {
	k, ok := cfg.Key.PublicKey().(ssh.CryptoPublicKey)
	if !ok || cfg.Key.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("witness: a key of type %s", cfg.Key.PublicKey().Type())
	}
	s, err := torchwood.NewCosignatureSigner(ledger.JumpWitnessName(cfg.Origin, cfg.Jump), raw{cfg.Key, k.CryptoPublicKey()})
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	m, err := OpenMirror(cfg.Dir, cfg.LedgerKey)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Witness{cfg: cfg, mirror: m, signer: s, status: Status{Size: m.head.Size}}, nil
}

// raw signs with an SSH key as with a plain one: an ssh-ed25519 signature's blob is the plain signature (RFC 8709 section 6).
type raw struct {
	ssh.Signer
	public crypto.PublicKey
}

func (r raw) Public() crypto.PublicKey { return r.public }

func (r raw) Sign(rand io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	s, err := r.Signer.Sign(rand, message)
	if err != nil {
		return nil, err
	}
	return s.Blob, nil
}

// Status says how the witness stands.
func (w *Witness) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Mirror is the copy of the ledger. While Run does, it is for Run's own calls (CA, Behind, Refused) alone.
func (w *Witness) Mirror() *Mirror { return w.mirror }

// Close lets the copy go; Run has ended.
func (w *Witness) Close() error { return w.mirror.Close() }

// Run follows the CA's heads.
func (w *Witness) Run(ctx context.Context) {
	pause := firstPause
	handedIn := int64(-1) // the size that the CA has our cosignature of
	for ctx.Err() == nil {
		var err error
		if w.mirror.head.Size > max(handedIn, 0) {
			if err = w.cfg.CA.Cosign(ctx, w.mirror.signed); err == nil {
				handedIn = w.mirror.head.Size
			}
		}
		// Also where it wasn't taken: a CA that has gone back, or sideways, doesn't take it.
		signed, herr := w.cfg.CA.WitnessHead(ctx, w.mirror.head.Size, wait)
		if herr == nil {
			herr = w.Cosign(ctx, signed)
		}
		if herr != nil {
			err = herr
		}
		w.mu.Lock()
		had := w.status.Problem
		w.status.Problem = ""
		if err != nil {
			w.status.Problem = err.Error()
		}
		w.mu.Unlock()
		if err == nil {
			pause = firstPause
			continue
		}
		if ctx.Err() != nil {
			return
		}
		handedIn = -1
		switch {
		case errors.Is(err, ErrFork) || errors.Is(err, ErrBehind):
			w.cfg.Logger.Error("head not cosigned", "error", err, "kept in", w.cfg.Dir)
		case err.Error() != had:
			w.cfg.Logger.Warn("head not cosigned", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// Cosign takes a head of the CA: it fetches what is new, holds the tree against the head, makes both durable and cosigns. A head that was cosigned already is no error.
func (w *Witness) Cosign(ctx context.Context, signed string) error {
	m := w.mirror
	head, err := ledger.OpenCheckpoint(signed, w.cfg.LedgerKey)
	if err != nil {
		return err
	}
	if head.Origin != w.cfg.Origin {
		return fmt.Errorf("%w: origin %q, pinned is %q", ErrFork, head.Origin, w.cfg.Origin)
	}
	if head.Size <= m.head.Size {
		root, err := m.RootAt(head.Size)
		if err != nil {
			return err
		}
		switch {
		case root != head.Root:
			return w.refuse(ctx, signed, head, fmt.Sprintf("of %d entries the CA has the root %s, cosigned was %s", head.Size, head.Root, root))
		case head.Size < m.head.Size:
			if w.cfg.Behind != nil {
				w.cfg.Behind(ctx, head, m)
			}
			return fmt.Errorf("%w: it has %d entries, %d were cosigned", ErrBehind, head.Size, m.head.Size)
		}
		return nil
	}
	if m.size > head.Size { // an attempt at a newer one was cut off; else it goes on where that was
		if err := m.back(); err != nil {
			return err
		}
	}
	for m.size < head.Size {
		if err := w.fetch(ctx, head.Size); err != nil {
			return err
		}
	}
	root, err := m.RootAt(head.Size)
	if err != nil {
		return err
	}
	if root != head.Root {
		why := fmt.Sprintf("the entries that the CA gives have the root %s at %d, its head says %s", root, head.Size, head.Root)
		err := w.refuse(ctx, signed, head, why)
		return errors.Join(err, m.back())
	}
	return w.sign(signed, head)
}

// fetch gets the next bundle of a tree of size size.
func (w *Witness) fetch(ctx context.Context, size int64) error {
	m := w.mirror
	t, ok := ledger.Bundle(m.size/ledger.BundleEntries, size)
	if !ok {
		return fmt.Errorf("no bundle for entry %d of %d", m.size, size)
	}
	ctx, cancel := context.WithTimeout(ctx, bundleTimeout)
	defer cancel()
	b, err := w.cfg.CA.EntryBundle(ctx, t)
	if err != nil {
		return fmt.Errorf("fetching entries from %d on: %w", m.size, err)
	}
	es, err := ledger.SplitBundle(b, t.W)
	if err != nil {
		return err
	}
	return m.append(es[m.size-t.N*ledger.BundleEntries:])
}

// sign cosigns a head whose tree is this one's. It is durable before anybody sees the cosignature.
func (w *Witness) sign(signed string, head ledger.Checkpoint) error {
	text := signed[:strings.Index(signed, "\n\n")+1]
	b, err := note.Sign(&note.Note{Text: text}, w.signer)
	if err != nil {
		return fmt.Errorf("cosigning: %w", err)
	}
	both, err := ledger.Merge(signed, string(b))
	if err != nil {
		return err
	}
	if err := w.mirror.commit(head, both); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Size, w.status.At = head.Size, time.Now()
	return nil
}

func (w *Witness) refuse(ctx context.Context, signed string, head ledger.Checkpoint, why string) error {
	err := fmt.Errorf("%w: %s", ErrFork, why)
	if kerr := w.mirror.refuse(signed, why, head); kerr != nil {
		err = errors.Join(err, kerr)
	}
	if w.cfg.Refused != nil {
		w.cfg.Refused(ctx, w.mirror.signed, signed)
	}
	return err
}
