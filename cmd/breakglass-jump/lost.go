package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/durable"
	"breakglass/jump/witness"
	"breakglass/ledger"
)

// This file is the jump's part when the CA is lost. Of a CA that was restored from an old copy, what came after that copy is here, cosigned: it is
// offered as soon as the CA shows that it lacks it. Of a CA that follows a lost one, the proof is asked for, and what was pinned gives way to it, loudly.

// kept is the witness's copy of the ledger as a tail offers it.
type kept struct{ *witness.Mirror }

func (k kept) Head() (string, error) {
	_, signed := k.Mirror.Head()
	return signed, nil
}

// offering is the CA as a witness asks it: where it answers that its ledger lacks its end, it is shown what is kept here.
type offering struct {
	*client.Client
	mirror func() *witness.Mirror
	log    *slog.Logger
}

// Cosign implements witness.CA.
func (o *offering) Cosign(ctx context.Context, signed string) error {
	err := o.Client.Cosign(ctx, signed)
	if p := new(api.Problem); errors.As(err, &p) && (p.Code == api.CodeBehind || p.Code == api.CodeForked) {
		o.offer(ctx, o.mirror())
	}
	return err
}

// offer shows all that is kept. It runs where the witness does, which alone writes the copy.
func (o *offering) offer(ctx context.Context, m *witness.Mirror) {
	head, _ := m.Head()
	if head.Size == 0 {
		return
	}
	s, err := o.Client.OfferTail(ctx, kept{m})
	switch {
	case err != nil:
		o.log.Warn("what is kept of the ledger was shown to the CA", "entries", head.Size, "answer", err)
	case s.Wanted:
		o.log.Warn("what is kept of the ledger was shown to the CA, which waits for more", "entries", head.Size, "the CA has", s.Entries)
	default:
		o.log.Warn("the CA's ledger is whole again", "kept here", head.Size, "the CA has", s.Entries)
	}
}

// behind, refused and offer are the witness's callbacks.
func (o *offering) behind(ctx context.Context, _ ledger.Checkpoint, m *witness.Mirror) {
	o.offer(ctx, m)
}
func (o *offering) refused(ctx context.Context, _, _ string) { o.offer(ctx, o.mirror()) }

// errSucceeded ends serving under the pins of a CA that is lost.
var errSucceeded = errors.New("another CA follows the one that is lost")

const (
	// succeedAgain is how long the next question for a proof waits: founders sign at their pace.
	succeedAgain = 2 * time.Second
	// ofEpoch marks a directory in which the files of a lost CA have yet to be set aside.
	ofEpoch = "succeeded"
)

// awaitSuccession waits until an answer comes from another CA than the pinned one, and proof that it follows that; then the new pins are written.
func awaitSuccession(ctx context.Context, d directory, ca *client.Client, elsewhere <-chan struct{}, log *slog.Logger) error {
	said := ""
	for {
		select {
		case <-elsewhere:
		case <-ctx.Done():
			return ctx.Err()
		}
		s, err := ca.Succession(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && s.Entry != nil:
			if err = d.succeed(ca.Pins(), api.Pins{Site: s.Facts.Site, Checkpoint: s.Entry.Checkpoint}); err == nil {
				log.Warn("THE CA WAS REPLACED", "lost", s.Facts.Old.Origin, "follows", s.Facts.Site.Origin, "signed by", client.Founders(s), "old pins", d.path(fmt.Sprintf("pins.epoch-%d", s.Facts.Old.Epoch)))
				return errSucceeded
			}
		case err == nil:
			err = errors.New("its founders have not signed yet")
		}
		if err.Error() != said {
			said = err.Error()
			log.Error("another CA answers than the pinned one, and is not followed", "error", err)
		}
		select {
		case <-time.After(succeedAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// succeed pins what follows the lost CA. The old pins are kept; what belongs to the lost CA is set aside at the next start (setAside), once nothing writes it any more.
func (d directory) succeed(old, next api.Pins) error {
	if err := next.Validate(); err != nil {
		return err
	}
	b, err := old.Marshal()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(d.path(fmt.Sprintf("pins.epoch-%d", old.Site.Epoch)), b, 0o644); err != nil {
		return err
	}
	if err := durable.WriteFile(d.path(ofEpoch), fmt.Appendf(nil, "%d\n", old.Site.Epoch), 0o600); err != nil {
		return err
	}
	return d.writePins(next)
}

// setAside renames what belongs to a lost CA: the journal, whose facts speak to it alone, the copy of its ledger, and its newest head. They are evidence, and
// the copy is what a succession by a longer one would need.
func (d directory) setAside(log *slog.Logger) error {
	b, err := os.ReadFile(d.path(ofEpoch))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var epoch int
	if _, err := fmt.Sscanf(string(b), "%d\n", &epoch); err != nil {
		return fmt.Errorf("reading %s: %w", d.path(ofEpoch), err)
	}
	pins, err := d.readPins()
	if err != nil {
		return err
	}
	if pins.Site.Epoch <= epoch { // the pins were not written: nothing has followed yet
		return durable.Remove(d.path(ofEpoch))
	}
	for _, name := range []string{"journal", "witness", "checkpoint"} {
		to := d.path(fmt.Sprintf("%s.epoch-%d", name, epoch))
		if err := durable.Rename(d.path(name), to); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("setting aside what was the lost CA's: %w", err)
		}
		log.Warn("set aside: it belongs to the CA that is lost", "file", to)
	}
	return durable.Remove(d.path(ofEpoch))
}
