package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"breakglass/agent"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/internal/statement"
)

func newFoundCmd(a *app) *cobra.Command {
	var policyFile string
	var yes bool
	c := &cobra.Command{
		Use: "found", Short: "As an owner: adopt the first policy and the first keys (two touches: one to read, one to sign)",
		Long: `A production site opens once every owner whom its first policy names has signed that policy and the keys that are enrolled.
Found shows both. With --policy it holds the policy against your own copy instead of printing it.
If a key is enrolled after an owner signed, that owner has to sign again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.found(cmd.Context(), policyFile, yes) },
	}
	c.Flags().StringVar(&policyFile, "policy", "", "your own copy of the policy: `FILE`")
	c.Flags().BoolVar(&yes, "yes", false, "don't ask once more before signing")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func (a *app) found(ctx context.Context, policyFile string, yes bool) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	reader, err := a.pass(ctx)
	if err != nil {
		return err
	}
	f, err := reader.Founding(ctx)
	if err != nil {
		return err
	}
	keys, err := a.foundingKeys(f)
	if err != nil {
		return err
	}
	if err := a.foundingPolicy(f, policyFile); err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stderr, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "person\tkey\tmodel\tfingerprint")
	for _, k := range keys {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Person, k.Key, clean(model(k)), k.Fingerprint)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	a.term.Say("Owners: %s. Signed so far: %s.", joined(f.Owners), orDash(joined(f.Signed)))
	// A CA that left out a key of one's own, or put another under one's name, would be seen here by nobody else.
	for _, own := range who.Keys {
		if !slices.ContainsFunc(keys, func(k *agent.NewKey) bool { return k.Person == who.Person && sameLine(own.PublicKey, k.Fingerprint) }) {
			a.term.Say("breakglass: warning: your key %s is not among them", own.Name)
		}
	}
	if !yes {
		answer, err := a.term.Ask(ctx, "Sign this policy and these keys? Type yes: ")
		if errors.Is(err, terminal.ErrNobody) {
			return withStatus(exitUsage, errors.New("no terminal to ask on"), "breakglass found --yes")
		}
		if err != nil {
			return err
		}
		if answer != "yes" {
			return withStatus(exitFailed, errors.New("nothing was signed"))
		}
	}
	ag, fido, err := a.agent(reader)
	if err != nil {
		return err
	}
	defer fido.Forget()
	st, err := ag.Found(ctx, api.FoundingAsk{Person: string(who.Person), Policy: f.Policy, Owners: f.Owners, Keys: f.Keys})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(st)
	}
	if st.Founded {
		a.term.Say("The site is founded: these keys count, and whatever widens or forgives takes a touch from now on.")
		return nil
	}
	a.term.Say("Signed. Missing still:")
	for _, m := range st.Missing {
		a.term.Say("  %s", clean(m))
	}
	return nil
}

// foundingKeys proves each key, and that they are those that are to be signed.
func (a *app) foundingKeys(f *api.FoundingState) ([]*agent.NewKey, error) {
	var out []*agent.NewKey
	for _, e := range f.Entries {
		k, err := agent.CheckNewKey(e.Entry, a.seen().Site)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	if !slices.EqualFunc(out, f.Keys, func(k *agent.NewKey, fp string) bool { return k.Fingerprint == fp }) {
		return nil, fmt.Errorf("%w: the keys to sign are not those that are shown", agent.ErrEnrolment)
	}
	return out, nil
}

// foundingPolicy shows the policy that is to be signed, or holds it against the owner's own copy.
func (a *app) foundingPolicy(f *api.FoundingState, file string) error {
	if got := statement.Hash(sha256.Sum256([]byte(f.Text))); got != f.Policy {
		return fmt.Errorf("the CA shows a policy with SHA-256 %s, to be signed is %s", got, f.Policy)
	}
	if file == "" {
		fmt.Fprintln(a.stdout, clean(f.Text))
		return nil
	}
	own, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading your copy of the policy: %w", err)
	}
	sum := sha256.Sum256(own)
	if sum != f.Policy {
		return withStatus(exitDenied, fmt.Errorf("the CA's policy is not %s (SHA-256 %s, yours %s): nothing was signed", file, f.Policy, hex.EncodeToString(sum[:])),
			"breakglass found (without --policy) prints the CA's")
	}
	a.term.Say("The policy is %s, byte for byte.", file)
	return nil
}

// sameLine says whether a public key in authorized_keys form has that fingerprint.
func sameLine(line, fingerprint string) bool {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(line)))
	return err == nil && ssh.FingerprintSHA256(k) == fingerprint
}
