package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
)

func newInviteCmd(a *app) *cobra.Command {
	var jump string
	c := a.withDir(&cobra.Command{
		Use: "invite PERSON | invite --jump NAME", Short: "Make a one-time token for a person's key or for a jump", Args: cobra.MaximumNArgs(1),
		Long: `Makes a one-time token, good for a day. Before the founding, and in the demo, local root on the CA's machine may (--dir DIR). Later it takes an
operator's touch, on the operator's own machine: the secret is drawn there, and the CA learns its hash alone.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := inviteAsk{For: api.ForJump, Name: jump}
			next := "on the jump: breakglass-jump join TOKEN --listen IP:PORT --advertise IP:PORT --source IP"
			switch {
			case len(args) == 1 && jump != "" || len(args) == 0 && jump == "":
				return usagef("say PERSON or --jump NAME")
			case len(args) == 1:
				q = inviteAsk{For: api.ForPerson, Name: args[0]}
				next = "on their machine: breakglass enroll TOKEN --key-name NAME"
			}
			var text string
			if a.here(cmd) {
				var got inviteAnswer
				if err := a.withAdmin(cmd.Context(), func(ad *admin) error {
					return ad.call(cmd.Context(), http.MethodPost, "/admin/invite", q, &got)
				}); err != nil {
					return err
				}
				text = got.Token
			} else {
				t, err := a.invite(cmd.Context(), q)
				if err != nil {
					return err
				}
				text = t.String()
			}
			return a.printToken(text, next)
		},
	})
	c.Flags().StringVar(&jump, "jump", "", "for a jump of the policy")
	return c
}

func (a *app) printToken(text, next string) error {
	t, err := api.ParseToken(text)
	if err != nil {
		return err
	}
	a.say("%s; good once", t.Redacted())
	a.say("whoever has it first can use it: hand it over in person or on a channel you trust")
	a.say("%s", next)
	if a.json {
		return a.printJSON(map[string]any{"for": t.For, "name": t.Name, "expires": t.Expires, "token": text})
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}
