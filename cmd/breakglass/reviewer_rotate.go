package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"breakglass/agent/reader"
	"breakglass/ca/api"
	"breakglass/internal/durable"
)

func newReviewerRotateCmd(a *app) *cobra.Command {
	var byPassphrase bool
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Make another identity: new recordings are sealed to it, old ones stay readable",
		Long: `Rotate is for a hardware key that is gone, an identity that somebody may have copied, or a change from a passphrase to keys. It opens your identity (one touch),
makes another, and seals both together under each enrolled key of yours that is plugged in (two touches on each) or, with --passphrase, under a passphrase. Then your key signs
that the new one takes the old one's place (one touch more). A key that is not plugged in opens nothing of it: let it in again with "breakglass reviewer add-key".

What was sealed to the old identity stays so: whoever has that and gets the envelopes goes on reading them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reviewerRotate(cmd.Context(), byPassphrase) },
	}
	c.Flags().BoolVar(&byPassphrase, "passphrase", false, "seal them by a passphrase, not under keys")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func (a *app) reviewerRotate(ctx context.Context, byPassphrase bool) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	o, err := a.openIdentity(ctx)
	if err != nil {
		return err
	}
	defer o.wipe()
	ids, err := o.identities()
	if err != nil {
		return err
	}
	old, err := reader.RecipientOf(ids[0])
	if err != nil {
		return fmt.Errorf("opening the identity: %w", err)
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return fmt.Errorf("making the identity: %w", err)
	}
	text := append(identityText(id, time.Now()), o.text...)
	defer clear(text)
	before, how, sealed := readerFile, sealedHardware, []byte(nil)
	if o.box == nil {
		before = identityFile
	}
	after := readerFile
	if byPassphrase {
		after, how = identityFile, sealedPassphrase
		pass := o.pass
		if pass == nil {
			if pass, err = a.passphrase(ctx, true); err != nil {
				return err
			}
			defer clear(pass)
		}
		if sealed, err = sealIdentity(text, pass); err != nil {
			return err
		}
	} else {
		box, err := reader.New(text, time.Now())
		if err != nil {
			return err
		}
		defer box.Wipe()
		if err := a.sealUnderKeys(ctx, who, box); err != nil {
			return err
		}
		sealed = box.Marshal()
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return err
	}
	defer fido.Forget()
	// On the disk before the CA knows it, with the old one in it: whatever the CA answers, all that is sealed to either can be read.
	put, err := os.ReadFile(a.home.Path(before))
	if err != nil {
		return fmt.Errorf("reading the identity: %w", err)
	}
	if err := durable.WriteFile(a.home.Path(after), sealed, 0o600); err != nil {
		return fmt.Errorf("writing the identity: %w", err)
	}
	state, err := ag.Rotate(ctx, c, api.RotationAsk{Person: string(who.Person), Old: old, Age: id.Recipient().String(), Sealed: how})
	if err != nil {
		if a.surelyNotRecorded(ctx, err) {
			err = errors.Join(err, a.putBack(before, after, put))
		}
		return err
	}
	if before != after {
		if err := durable.Remove(a.home.Path(before)); err != nil {
			return fmt.Errorf("removing the file of the old identity: %w", err)
		}
	}
	if a.json {
		return a.printJSON(state)
	}
	a.term.Say("New recordings are sealed to your new identity; %s opens the old ones, too.", a.home.Path(after))
	if !state.Reader {
		a.term.Say("breakglass: warning: the policy doesn't list %s as a reader: recordings are not sealed to it.", who.Person)
	}
	return nil
}

// putBack undoes a rotation that the CA refused.
func (a *app) putBack(before, after string, old []byte) error {
	if before != after {
		return durable.Remove(a.home.Path(after))
	}
	return durable.WriteFile(a.home.Path(before), old, 0o600)
}
