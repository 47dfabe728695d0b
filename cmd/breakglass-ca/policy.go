package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/internal/policyfiles"
	"breakglass/policy"
)

func newPolicyCmd(a *app) *cobra.Command {
	return group("policy", "Check, test, compare and explain policies; who can get in where",
		newPolicyCheckCmd(a), newPolicyTestCmd(a), newPolicyExplainCmd(a), newPolicyWhoCmd(a), newPolicyWhatCmd(a), newPolicyDiffCmd(a), newPolicyReplayCmd(a), newPolicyStatusCmd(a))
}

// parsePolicy reads a policy, a file or a directory, without running its own tests.
func parsePolicy(cmd *cobra.Command, path string) (*policy.Policy, error) {
	var src []byte
	var err error
	if path == "-" {
		src, err = readLimited(path, cmd.InOrStdin(), policy.MaxFileBytes)
	} else {
		src, err = policyfiles.Read(path, policy.MaxFileBytes)
	}
	if err != nil {
		return nil, err
	}
	return policy.Parse(path, src)
}

// finding is a policy.Finding as JSON.
type finding struct {
	Severity string `json:"severity"`
	File     string `json:"file,omitempty"` // of a set
	Line     int    `json:"line,omitempty"`
	Message  string `json:"message"`
	Next     string `json:"next,omitempty"`
}

func newPolicyCheckCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "check FILE|DIR", Short: "Look for mistakes, dead ends and doors that stand open", Args: cobra.ExactArgs(1),
		Long: `Look for mistakes, dead ends and doors that stand open.

Where the service of the CA in --dir runs, people of the policy who have no key that counts, or too few, are found too, and
readers of it who could not read.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePolicy(cmd, args[0])
			if err != nil {
				return err
			}
			found := []finding{}
			faults := 0
			for _, r := range policy.Test(p) {
				if !r.OK() {
					faults++
					found = append(found, finding{policy.SeverityError.String(), r.File, r.Line, fmt.Sprintf("test %q fails: %s", r.Name, strings.Join(r.Faults, "; ")),
						"breakglass-ca policy test " + args[0]})
				}
			}
			keys, err := a.keysThatCount(cmd.Context())
			if err != nil { // the file can be judged all the same
				found = append(found, finding{policy.SeverityWarning.String(), "", 0, fmt.Sprintf("the CA does not say who has keys that count: %v", err), "breakglass-ca status"})
			}
			for _, f := range policy.CheckWith(p, policy.Known{Now: time.Now(), Keys: keys}) {
				if f.Severity == policy.SeverityError {
					faults++
				}
				found = append(found, finding{f.Severity.String(), f.File, f.Line, f.Message, f.Next})
			}
			more, err := a.readersOf(cmd.Context(), p)
			if err != nil {
				more = []finding{{policy.SeverityWarning.String(), "", 0, fmt.Sprintf("the CA does not say to whom recordings are sealed: %v", err), "breakglass-ca status"}}
			}
			for _, f := range more {
				if f.Severity == policy.SeverityError.String() {
					faults++
				}
				found = append(found, f)
			}
			if a.json {
				if err := a.printJSON(map[string]any{"sha256": p.SHA256, "findings": found}); err != nil {
					return err
				}
			} else {
				for _, f := range found {
					place := policy.At(args[0], f.File, f.Line)
					fmt.Fprintf(a.stdout, "%s: %s: %s\n", place, f.Severity, clean(f.Message))
					if f.Next != "" {
						fmt.Fprintf(a.stdout, "    %s\n", clean(f.Next))
					}
				}
			}
			if faults > 0 {
				return fmt.Errorf("%s: %s", args[0], count(faults, "error"))
			}
			a.say("%s: %s, no error, %s", args[0], count(len(p.Rules), "rule"), count(len(found), "warning"))
			return nil
		},
	})
}

func newPolicyTestCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "test FILE|DIR", Short: "Run the policy's own [[test]] blocks", Args: cobra.ExactArgs(1),
		Long: `Run the policy's own [[test]] blocks, and name the rules by which none of them is decided: what nobody tests, nobody notices when it changes.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePolicy(cmd, args[0])
			if err != nil {
				return err
			}
			type result struct {
				Name     string          `json:"name"`
				Line     int             `json:"line"`
				OK       bool            `json:"ok"`
				Faults   []string        `json:"faults,omitempty"`
				Decision policy.Decision `json:"decision"`
			}
			results := []result{}
			failed := 0
			for _, r := range policy.Test(p) {
				results = append(results, result{r.Name, r.Line, r.OK(), r.Faults, r.Decision})
				if !r.OK() {
					failed++
				}
				if a.json {
					continue
				}
				if r.OK() {
					fmt.Fprintf(a.stdout, "ok    %s\n", clean(r.Name))
					continue
				}
				fmt.Fprintf(a.stdout, "FAIL  %s (line %d)\n", clean(r.Name), r.Line)
				for _, f := range r.Faults {
					fmt.Fprintf(a.stdout, "      %s\n", clean(f))
				}
			}
			untested := policy.Untested(p)
			if a.json {
				if err := a.printJSON(map[string]any{"sha256": p.SHA256, "tests": results, "untested": untested}); err != nil {
					return err
				}
			} else if len(untested) > 0 {
				fmt.Fprintln(a.stdout, "rules that no test is decided by:")
				for _, n := range untested {
					r, _ := p.Rule(n)
					fmt.Fprintf(a.stdout, "      %s (line %d)\n", n, r.Line)
				}
			}
			if failed > 0 {
				return withHint(fmt.Errorf("%s: %d of %s failed; the CA would refuse this file", args[0], failed, count(len(results), "test")),
					"breakglass-ca policy explain "+args[0]+" PERSON LOGIN@HOST --from ADDRESS shows each check")
			}
			a.say("%s: %s passed", args[0], count(len(results), "test"))
			return nil
		},
	}
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
