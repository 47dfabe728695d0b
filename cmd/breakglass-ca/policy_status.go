package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/policyfiles"
	"breakglass/policy"
)

// readPolicyText reads a policy from a file, a directory of files, or, for "-", from stdin.
func readPolicyText(cmd *cobra.Command, path string) ([]byte, error) {
	if path == "-" {
		return readLimited(path, cmd.InOrStdin(), policy.MaxFileBytes)
	}
	return policyfiles.Read(path, policy.MaxFileBytes)
}

func newPolicyStatusCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "status", Short: "Show the policy in force, what is proposed as the next, and who has signed it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd.Context(), func(ad *admin) error {
				var s api.PolicyState
				if err := ad.call(cmd.Context(), http.MethodGet, "/admin/policy", nil, &s); err != nil {
					return err
				}
				before, next := s.Text, ""
				if s.Text = ""; s.Proposal != nil { // the texts are long, and stand in files
					next, s.Proposal.Text = s.Proposal.Text, ""
				}
				if a.json {
					return a.printJSON(&s)
				}
				fmt.Fprintf(a.stdout, "in force   %s\nthe next   is signed by %d of: %s\n", s.Policy, s.Signers, persons(s.Owners))
				p := s.Proposal
				if p == nil {
					fmt.Fprintln(a.stdout, "proposed   nothing")
					return nil
				}
				fmt.Fprintf(a.stdout, "proposed   %s\n           by %s, %s\nsigned     %s\n", p.Policy, clean(p.From), p.Since.UTC().Format("2006-01-02 15:04Z"), persons(p.Signed))
				if len(p.Stale) > 0 {
					fmt.Fprintf(a.stdout, "           something else, or with a key that no longer counts: %s\n", persons(p.Stale))
				}
				now, err := policy.Parse("in force", []byte(before))
				if err != nil {
					return err
				}
				then, err := policy.Parse("proposed", []byte(next))
				if err != nil {
					return err
				}
				for _, l := range policy.Words(now, then) {
					fmt.Fprintln(a.stdout, "  "+clean(l))
				}
				fmt.Fprintln(a.stdout, "next: each of the owners: breakglass policy sign")
				return nil
			})
		},
	})
}

func persons(list []name.Person) string {
	if len(list) == 0 {
		return "nobody"
	}
	var out []string
	for _, p := range list {
		out = append(out, string(p))
	}
	return strings.Join(out, ", ")
}
