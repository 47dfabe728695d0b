package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/internal/statement"
)

// After the founding a rotation is prepared where the CA's keys are and ordered where an operator's key is; here is the second half. What to
// type is what the first half printed: an operator who was told the target on another channel can compare it with that.

func newOrderCmd(a *app) *cobra.Command {
	return group("order", "Order what was prepared on the CA's machine; it takes your touch",
		a.orderOf(statement.OrderRotateKey, "Make the standby key of that fingerprint the active one",
			func(key, fp string) {
				a.say("%s is the active %s; the old one stays trusted until it is retired", fp, key)
				a.say("next, on the CA's machine: what its `breakglass-ca rotate` printed")
			}),
		a.orderOf(statement.OrderRetireKey, "Trust the key of that fingerprint no more, for ever",
			func(key, fp string) {
				a.say("%s is no %s any more; the KRL names it (breakglass-ca krl; a minute with contrib/hosts)", fp, key)
				a.say("next, on the CA's machine: destroy its file, and breakglass-ca host setup HOST for each host that still lists it")
			}),
		a.orderWitnesses())
}

func (a *app) orderOf(act, short string, did func(key, fingerprint string)) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: act + " KEY:FINGERPRINT --reason WHY", Short: short, Args: cobra.ExactArgs(1),
		Example: "  " + orderLine(act, "session_ca:SHA256:…"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("say --reason WHY: it stands in the ledger for ever")
			}
			key, fp, ok := strings.Cut(args[0], ":")
			if !ok {
				return usagef("say KEY:FINGERPRINT, as `breakglass-ca rotate` printed it on the CA's machine")
			}
			done, err := a.order(cmd.Context(), act, args[0], reason)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			did(key, fp)
			return nil
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, in a line")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

// orderLine is what the CA's machine prints for an operator to type.
func orderLine(act, target string) string {
	return fmt.Sprintf("breakglass-ca order %s %s --reason WHY", act, target)
}
