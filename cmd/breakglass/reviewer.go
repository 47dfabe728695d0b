package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/internal/durable"
)

const (
	// passphraseMin keeps the sealed file from being guessed: the file may be copied, so length is all that protects it.
	passphraseMin = 12
	identityFile  = "identity.age"
	// maxIdentity bounds the sealed file.
	maxIdentity = 64 << 10
)

func newReviewerCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "reviewer", Short: "My identity for reading recordings", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	init := &cobra.Command{
		Use:   "init",
		Short: "Make an age identity, sealed by a passphrase, and have my key name it as mine",
		Long: `Recordings are sealed to the readers whom the policy lists. Init makes a post-quantum hybrid age identity, seals it under a
passphrase (the file opens with stock "age -d"), and has your hardware key sign that its public half is yours (one touch).
The passphrase is asked for on the terminal, or read from the file that BREAKGLASS_PASSPHRASE_FILE names.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.reviewerInit(cmd.Context()) },
	}
	init.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	c.AddCommand(init)
	return c
}

func (a *app) reviewerInit(ctx context.Context) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	path := a.home.Path(identityFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return withHint(fmt.Errorf("you have an identity already: %s", path), "recordings sealed to it can be read with it alone; move it away before making another")
	}
	pass, err := a.passphrase(ctx, true)
	if err != nil {
		return err
	}
	defer clear(pass)
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return fmt.Errorf("making the identity: %w", err)
	}
	sealed, err := sealIdentity(id, pass)
	if err != nil {
		return err
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
	if err := durable.WriteNew(path, sealed, 0o600); err != nil {
		return fmt.Errorf("writing the identity: %w", err)
	}
	state, err := ag.Recipient(ctx, api.RecipientAsk{Person: string(who.Person), Age: id.Recipient().String(), Sealed: "passphrase"})
	if err != nil {
		var p *api.Problem
		if errors.As(err, &p) || ctx.Err() == nil && statusOf(err) == exitKey { // surely not recorded
			_ = durable.Remove(path)
		}
		return err
	}
	if a.json {
		return a.printJSON(state)
	}
	a.term.Say("Your identity is in %s, sealed by the passphrase. Its public half is recorded as yours.", path)
	if !state.Reader {
		a.term.Say("breakglass: warning: the policy doesn't list %s as a reader: recordings are not sealed to it yet.", who.Person)
	}
	return nil
}

// sealIdentity writes what `age-keygen | age -p` would.
func sealIdentity(id *age.HybridIdentity, pass []byte) ([]byte, error) {
	r, err := age.NewScryptRecipient(string(pass))
	if err != nil {
		return nil, fmt.Errorf("sealing the identity: %w", err)
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, r)
	if err != nil {
		return nil, fmt.Errorf("sealing the identity: %w", err)
	}
	_, err = fmt.Fprintf(w, "# created: %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339), id.Recipient(), id)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("sealing the identity: %w", err)
	}
	return b.Bytes(), nil
}

// identities opens the reviewer's sealed identity: it asks for the passphrase.
func (a *app) identities(ctx context.Context) ([]age.Identity, error) {
	f, err := os.Open(a.home.Path(identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(errors.New("you have no identity for reading recordings on this machine"), "breakglass reviewer init")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	defer f.Close()
	pass, err := a.passphrase(ctx, false)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	s, err := age.NewScryptIdentity(string(pass))
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	r, err := age.Decrypt(io.LimitReader(f, maxIdentity), s)
	if err != nil {
		return nil, withHint(fmt.Errorf("opening the identity: %w", err), "is it the right passphrase?")
	}
	ids, err := age.ParseIdentities(io.LimitReader(r, maxIdentity))
	if err != nil {
		return nil, fmt.Errorf("opening the identity: %w", err)
	}
	return ids, nil
}

// passphrase reads BREAKGLASS_PASSPHRASE_FILE's first line, or asks, twice for a new one.
func (a *app) passphrase(ctx context.Context, fresh bool) ([]byte, error) {
	if file := a.getenv("BREAKGLASS_PASSPHRASE_FILE"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		clear(b)
		return longEnough([]byte(strings.TrimSuffix(line, "\r")), fresh)
	}
	hint := "run it on a terminal, or name a file in BREAKGLASS_PASSPHRASE_FILE"
	p, err := a.term.Secret(ctx, "Passphrase of your reviewer identity: ")
	if errors.Is(err, terminal.ErrNobody) {
		return nil, withStatus(exitUsage, errors.New("no passphrase, and no terminal to ask for one on"), hint)
	}
	if err != nil {
		return nil, err
	}
	if p, err = longEnough(p, fresh); err != nil || !fresh {
		return p, err
	}
	again, err := a.term.Secret(ctx, "The same again: ")
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if !bytes.Equal(p, again) {
		return nil, usagef("the two differ")
	}
	return p, nil
}

func longEnough(p []byte, fresh bool) ([]byte, error) {
	if fresh && len([]rune(string(p))) < passphraseMin {
		return nil, usagef("the passphrase has fewer than %d characters", passphraseMin)
	}
	if len(p) == 0 {
		return nil, usagef("the passphrase is empty")
	}
	return p, nil
}
