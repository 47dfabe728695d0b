package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/policyfiles"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/policy"
)

func newPolicyCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "policy", Short: "See the policy in force and what is proposed; as an owner, propose and sign the next", Args: cobra.NoArgs,
		Long: `Shows what is proposed as the next policy, with its diff against the one in force and who has signed. As many owners of the policy in force as it
wants have to sign; with the last signature the next one is in force at once.

  breakglass policy                 what is proposed
  breakglass policy show            the policy in force, as it is written
  breakglass policy propose FILE    as an owner: offer the next one
  breakglass policy sign            as an owner: read the diff, and sign it`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, s, err := a.readPolicy(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			a.printProposal(s)
			return nil
		},
	}
	c.AddCommand(&cobra.Command{
		Use: "show", Short: "Print the policy in force", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, s, err := a.readPolicy(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			fmt.Fprint(a.stdout, visible(s.Text))
			return nil
		},
	}, newPolicyProposeCmd(a), newPolicySignCmd(a), &cobra.Command{
		Use: "withdraw", Short: "As an owner: take back what is proposed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reader, s, err := a.readPolicy(cmd.Context())
			if err != nil {
				return err
			}
			if s.Proposal == nil {
				return nothingProposed()
			}
			if _, err := reader.WithdrawPolicy(cmd.Context(), s.Proposal.Policy); err != nil {
				return err
			}
			a.term.Say("Withdrawn. The policy in force goes on.")
			return nil
		},
	})
	return c
}

func nothingProposed() error {
	return withStatus(exitFailed, errors.New("no policy is proposed"), "breakglass policy propose FILE")
}

func (a *app) readPolicy(ctx context.Context) (*client.Client, *api.PolicyState, error) {
	c, err := a.pass(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.Policy(ctx)
	return c, s, err
}

// printProposal prints what is proposed, in words and as a diff, which is made here from the two texts.
func (a *app) printProposal(s *api.PolicyState) {
	fmt.Fprintf(a.stdout, "in force   %s\nthe next   is signed by %d of: %s\n", s.Policy, s.Signers, joined(s.Owners))
	p := s.Proposal
	if p == nil {
		fmt.Fprintln(a.stdout, "proposed   nothing")
		return
	}
	fmt.Fprintf(a.stdout, "proposed   %s\n           by %s, %s\nsigned     %s\n", p.Policy, clean(p.From), p.Since.UTC().Format("2006-01-02 15:04Z"), orDash(joined(p.Signed)))
	if len(p.Stale) > 0 {
		fmt.Fprintf(a.stdout, "           something else, or with a key that no longer counts: %s\n", joined(p.Stale))
	}
	fmt.Fprintln(a.stdout)
	for _, l := range policyWords(s.Text, p.Text) {
		fmt.Fprintln(a.stdout, visible(l))
	}
	fmt.Fprint(a.stdout, "\n", visible(policytext.Diff(s.Text, p.Text)))
}

// policyWords is what changes, in words. The diff is the whole of it, so a policy that a newer CA took and this program can't read says that.
func policyWords(before, after string) []string {
	old, err := policy.Parse("in force", []byte(before))
	if err != nil {
		return []string{"This program can't read the policy in force (is it older than the CA?): the diff is all that it can show."}
	}
	next, err := policy.Parse("proposed", []byte(after))
	if err != nil {
		return []string{"This program can't read the proposed policy (is it older than the CA?): the diff is all that it can show."}
	}
	return policy.Words(old, next)
}

// visible is clean, and shows marks that turn the direction of a text or hide in it: what is signed is what is seen.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, clean(s))
}

func newPolicyProposeCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "propose FILE|DIR", Short: "As an owner: offer the next policy", Args: cobra.ExactArgs(1),
		Long: `Offers a policy, a file or a directory of files, as the next one. The CA checks it as breakglass-ca policy check does. It takes the place of what is
proposed, and is in force once enough owners have signed it (breakglass policy sign): you too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := policyfiles.Read(args[0], policy.MaxFileBytes)
			if err != nil {
				return err
			}
			c, err := a.pass(cmd.Context())
			if err != nil {
				return err
			}
			s, err := c.ProposePolicy(cmd.Context(), string(text))
			if err != nil {
				return err
			}
			if got := statement.Hash(sha256.Sum256(text)); s.Proposal == nil || s.Proposal.Policy != got {
				return errors.New("the CA took another text than was sent: somebody proposed another in the same moment, or it can't be trusted")
			}
			if a.json {
				return a.printJSON(s)
			}
			a.term.Say("Proposed. %d of %s have to sign it:", s.Signers, joined(s.Owners))
			a.term.Say("  breakglass policy sign")
			return nil
		},
	}
}

func newPolicySignCmd(a *app) *cobra.Command {
	var file string
	var yes bool
	c := &cobra.Command{
		Use: "sign", Short: "As an owner: read what is proposed, and sign it (a touch)", Args: cobra.NoArgs,
		Long: `Shows what is proposed and what it changes, and has your key sign exactly that change: from the policy in force to the proposed one. With --file it
holds the proposal against your own copy first. With the last signature that the policy in force wants, the proposal is in force at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.signPolicy(cmd.Context(), file, yes) },
	}
	c.Flags().StringVar(&file, "file", "", "your own copy of the proposal: `FILE` or directory")
	c.Flags().BoolVar(&yes, "yes", false, "don't ask once more before signing")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func (a *app) signPolicy(ctx context.Context, file string, yes bool) error {
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	c, err := a.pass(ctx)
	if err != nil {
		return err
	}
	s, err := c.Policy(ctx)
	if err != nil {
		return err
	}
	if s.Proposal == nil {
		return nothingProposed()
	}
	if file != "" {
		own, err := policyfiles.Read(file, policy.MaxFileBytes)
		if err != nil {
			return fmt.Errorf("reading your copy of the policy: %w", err)
		}
		if sum := statement.Hash(sha256.Sum256(own)); sum != s.Proposal.Policy {
			return withStatus(exitDenied, fmt.Errorf("what is proposed is not %s (SHA-256 %s, yours %s): nothing was signed", file, s.Proposal.Policy, sum), "breakglass policy shows what it changes")
		}
		a.term.Say("What is proposed is %s, byte for byte.", file)
	}
	a.printProposal(s)
	if !yes {
		answer, err := a.term.Ask(ctx, "Sign this change? Type yes: ")
		if errors.Is(err, terminal.ErrNobody) {
			return withStatus(exitUsage, errors.New("no terminal to ask on"), "breakglass policy sign --yes")
		}
		if err != nil {
			return err
		}
		if answer != "yes" {
			return withStatus(exitFailed, errors.New("nothing was signed"))
		}
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return err
	}
	defer fido.Forget()
	// The hashes are of the texts that were shown: the client held them against each other.
	done, err := ag.SignPolicy(ctx, c, api.PolicyAsk{Person: string(who.Person), Policy: s.Proposal.Policy, Previous: s.Policy, Changes: s.Proposal.Changes})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(done)
	}
	if done.Adopted {
		a.term.Say("Signed. It is in force.")
		return nil
	}
	var signed []name.Person
	if done.Proposal != nil {
		signed = done.Proposal.Signed
	}
	a.term.Say("Signed, so far by: %s. It takes %d of: %s.", joined(signed), done.Signers, joined(done.Owners))
	return nil
}
