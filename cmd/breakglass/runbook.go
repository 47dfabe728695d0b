package main

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
)

// runbook is a shell script, so that the recipe on paper is the one that a test has run.
//
//go:embed runbook.sh
var runbook string

func newRunbookCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "runbook", Short: "Print the recipe without breakglass: curl, jq, ssh-keygen and ssh alone", Args: cobra.NoArgs,
		Long: `Runbook prints a shell script for a laptop that has no breakglass: it asks with curl, signs with ssh-keygen and your key, and goes in with
stock ssh. Print it on paper and keep it with your second key. Where this machine is enrolled, addresses and keys are filled in.
The line in it sets up breakglass on a laptop that knows nothing yet. The page holds no secret; print it anew when the CA's keys are rotated.`,
		RunE: func(*cobra.Command, []string) error {
			text := runbook
			if p, err := a.home.Pins(); err == nil {
				who, _ := a.home.LoadPerson()
				line, err := api.Line(p.Site)
				if err != nil {
					return err
				}
				var jumps []string
				for _, j := range p.Site.Jumps {
					jumps = append(jumps, j.Addresses...)
				}
				text = strings.NewReplacer(
					"CA=198.51.100.1:8443", "CA="+first(p.Site.Addresses),
					"JUMP=198.51.100.2:22", "JUMP="+first(jumps),
					"SPKI=0000", "SPKI="+first(p.Site.TLS),
					"HOST_CA='ssh-ed25519 AAAA'", "HOST_CA='"+first(p.Site.HostCA)+"'",
					"PERSON=alice", "PERSON="+string(who.Person),
					"ORIGIN=breakglass/example", "ORIGIN="+p.Site.Origin,
					"--person NAME", "--person "+string(who.Person),
					"#     LINE\n", wrapLine(line.String()),
				).Replace(text)
			} else {
				a.term.Say("Not enrolled on this machine: the addresses and keys at the top are examples, to be filled in.")
			}
			_, err := fmt.Fprint(a.stdout, text)
			return err
		},
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// wrapLine breaks the pins line into lines of a comment that are short enough to be typed; the shell reads them as one argument's parts.
func wrapLine(s string) string {
	const groups = 9
	var b strings.Builder
	parts := strings.Split(s, "-")
	for len(parts) > 0 {
		n := min(groups, len(parts))
		b.WriteString("#     " + strings.Join(parts[:n], "-"))
		if parts = parts[n:]; len(parts) > 0 {
			b.WriteString(" \\")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
