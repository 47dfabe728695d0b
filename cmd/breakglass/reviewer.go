package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"breakglass/agent/fido2/wire"
	"breakglass/agent/reader"
	"breakglass/ca/api"
	"breakglass/internal/durable"
)

func newReviewerCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "reviewer", Short: "My identity for reading recordings", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var byPassphrase bool
	init := &cobra.Command{
		Use:   "init",
		Short: "Make an age identity, sealed under my hardware keys, and have my key name it as mine",
		Long: `Recordings are sealed to the readers whom the policy lists. Init makes a post-quantum hybrid age identity and seals it under each of your enrolled keys
that is plugged in: on each it makes a second credential (application ` + wire.ReaderApplication + `), which takes two touches. From then on reading takes one of those keys,
its PIN and a touch. Then your key signs that the public half is yours (one touch more).

With --passphrase a passphrase seals it (the file opens with stock "age -d"). It is asked for on the terminal, or read from the file that
BREAKGLASS_PASSPHRASE_FILE names.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reviewerInit(cmd.Context(), byPassphrase) },
	}
	init.Flags().BoolVar(&byPassphrase, "passphrase", false, "seal it by a passphrase, not under keys")
	init.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	add := &cobra.Command{
		Use:   "add-key",
		Short: "Let another of my hardware keys open my identity",
		Long: `Add-key opens your identity with a key that can (one touch), then seals it under each further enrolled key of yours that is plugged in (two touches on each).
With one socket only: begin with the key that can, and plug in the other when you are asked to.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reviewerAddKey(cmd.Context()) },
	}
	show := &cobra.Command{
		Use: "show", Short: "Show my identity's public half and the keys that open it (nothing blinks)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reviewerShow(cmd.Context()) },
	}
	var out string
	export := &cobra.Command{
		Use: "export -o FILE", Short: "Write my identity in the clear, for stock age: age -d -i FILE",
		Long: `Export opens your identity and writes it as age itself keeps one. Whoever has that file reads every recording that was sealed to you and whose envelope they get:
use it where nothing else will do, and destroy it (shred -u FILE).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reviewerExport(cmd.Context(), out) },
	}
	export.Flags().StringVarP(&out, "output", "o", "", "file to write; it must not be there")
	c.AddCommand(init, add, newReviewerRotateCmd(a), show, export)
	return c
}

func (a *app) reviewerInit(ctx context.Context, byPassphrase bool) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	for _, file := range []string{readerFile, identityFile} {
		if _, err := os.Stat(a.home.Path(file)); !errors.Is(err, fs.ErrNotExist) {
			return withHint(fmt.Errorf("you have an identity already: %s", a.home.Path(file)), "recordings sealed to it can be read with it alone; move it away before making another")
		}
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return fmt.Errorf("making the identity: %w", err)
	}
	text := identityText(id, time.Now())
	defer clear(text)
	path, how := a.home.Path(readerFile), sealedHardware
	var sealed []byte
	if byPassphrase {
		path, how = a.home.Path(identityFile), sealedPassphrase
		pass, err := a.passphrase(ctx, true)
		if err != nil {
			return err
		}
		defer clear(pass)
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
	// On the disk before the CA knows it: a recording sealed to an identity that a crash took could be read by nobody.
	if err := saveNew(path, sealed); err != nil {
		return err
	}
	state, err := ag.Recipient(ctx, api.RecipientAsk{Person: string(who.Person), Age: id.Recipient().String(), Sealed: how})
	if err != nil {
		if a.surelyNotRecorded(ctx, err) {
			_ = durable.Remove(path)
		}
		return err
	}
	if a.json {
		return a.printJSON(state)
	}
	if byPassphrase {
		a.term.Say("Your identity is in %s, sealed by the passphrase. Its public half is recorded as yours.", path)
	} else {
		a.term.Say("Your identity is in %s, sealed under your key. Its public half is recorded as yours.", path)
		a.term.Say("A lost key would lock you out: have a second one open it, too (breakglass reviewer add-key).")
	}
	if !state.Reader {
		a.term.Say("breakglass: warning: the policy doesn't list %s as a reader: recordings are not sealed to it yet.", who.Person)
	}
	return nil
}

// surelyNotRecorded tells a refusal from an answer that got lost.
func (a *app) surelyNotRecorded(ctx context.Context, err error) bool {
	var p *api.Problem
	return errors.As(err, &p) || ctx.Err() == nil && statusOf(err) == exitKey
}

// shownIdentity is an identity as `breakglass reviewer show` shows it.
type shownIdentity struct {
	File      string     `json:"file"`
	Sealed    string     `json:"sealed"`
	Recipient string     `json:"recipient,omitempty"` // not known of a passphrase's file before it is opened
	Created   *time.Time `json:"created,omitempty"`
	Keys      []shownKey `json:"keys,omitempty"`
}

type shownKey struct {
	Name string `json:"name"`
	Here string `json:"here"` // "yes", "no" or "unknown"
}

func (a *app) reviewerShow(ctx context.Context) error {
	f, err := a.readerFile()
	s := shownIdentity{File: a.home.Path(readerFile), Sealed: sealedHardware}
	var probe error
	switch {
	case err == nil:
		s.Recipient, s.Created = f.Recipient, &f.Created
		var here map[string]bool
		here, probe = a.derivers(ctx, f)
		for _, w := range f.Wraps {
			k := shownKey{string(w.Name), "no"}
			if probe != nil {
				k.Here = "unknown"
			} else if here[string(w.Key.CredentialID)] {
				k.Here = "yes"
			}
			s.Keys = append(s.Keys, k)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		s.File, s.Sealed = a.home.Path(identityFile), sealedPassphrase
		if _, err := os.Stat(s.File); err != nil {
			return withHint(errNoIdentity, "breakglass reviewer init")
		}
	}
	if a.json {
		return a.printJSON(s)
	}
	fmt.Fprintf(a.stdout, "file      %s\nsealed    by %s\n", s.File, map[string]string{sealedHardware: "hardware keys: one of them, its PIN and a touch open it", sealedPassphrase: "a passphrase"}[s.Sealed])
	if f == nil {
		return nil
	}
	fmt.Fprintf(a.stdout, "created   %s\npublic    %s\n", f.Created.Local().Format(time.DateTime), clean(shortened(f.Recipient)))
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "key\tplugged in")
	for _, k := range s.Keys {
		fmt.Fprintf(w, "%s\t%s\n", clean(k.Name), k.Here)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if probe != nil {
		a.term.Say("breakglass: warning: %v", probe)
	}
	if len(s.Keys) == 1 {
		a.term.Say("breakglass: warning: one key alone opens it; if that is lost, so is what only you could read")
		a.term.Say("breakglass: hint: breakglass reviewer add-key")
	}
	return nil
}

// shortened is the beginning of something long: a post-quantum recipient has 1,959 characters.
func shortened(s string) string {
	const enough = 40
	if len(s) <= enough+24 {
		return s
	}
	return fmt.Sprintf("%s… (%d characters; --json prints them)", s[:enough], len(s))
}

func (a *app) reviewerExport(ctx context.Context, out string) error {
	if out == "" {
		return usagef("say -o FILE: a secret is not printed on a terminal")
	}
	o, err := a.openIdentity(ctx)
	if err != nil {
		return err
	}
	defer o.wipe()
	if err := durable.WriteNew(out, o.text, 0o600); err != nil {
		return fmt.Errorf("writing the identity: %w", err)
	}
	a.term.Say("breakglass: warning: %s opens all that was sealed to you; destroy it after use (shred -u)", out)
	return nil
}
