package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"breakglass/ca"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// witnessFlags are how a list of witnesses is said: at init, later, and in the order that it then takes.
type witnessFlags struct {
	outside []string
	quorum  int
	noJumps bool
}

func (w *witnessFlags) add(f *pflag.FlagSet) {
	f.StringArrayVar(&w.outside, "witness", nil, "a witness of the ledger beside the jumps, \"VKEY URL\" (again for more)")
	f.IntVar(&w.quorum, "quorum", 1, "how many of the jumps and witnesses have to cosign the ledger's heads")
	f.BoolVar(&w.noJumps, "no-jumps", false, "the jumps are no witnesses")
}

// list is the site's.
func (w *witnessFlags) list() ([]string, error) {
	var out []string
	if !w.noJumps {
		out = append(out, ledger.JumpsLine)
	}
	for _, s := range w.outside {
		vkey, url, ok := strings.Cut(s, " ")
		name, _, _ := strings.Cut(vkey, "+")
		if !ok {
			return nil, usagef("--witness %q: want its public key and its URL, with a space between", s)
		}
		out = append(out, "witness "+name+" "+vkey+" "+url)
	}
	return append(out, fmt.Sprintf("quorum %d", w.quorum)), nil
}

// args are the flags again, for somebody to type.
func (w *witnessFlags) args() string {
	s := ""
	if w.noJumps {
		s += " --no-jumps"
	}
	for _, o := range w.outside {
		s += fmt.Sprintf(" --witness %q", o)
	}
	return s + fmt.Sprintf(" --quorum %d", w.quorum)
}

func newWitnessesCmd(a *app) *cobra.Command {
	var w witnessFlags
	set := a.withDir(&cobra.Command{
		Use: "set --witness \"VKEY URL\" --quorum N", Short: "Give the ledger other witnesses: this list, whole", Args: cobra.NoArgs,
		Long: `Give the ledger other witnesses. What is said is the whole list: the jumps, unless --no-jumps, and each --witness. Of these --quorum have to cosign each head. Once the site is
founded it takes an operator's order, and this prints what they type. "breakglass-ca status" shows who cosigned what.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := w.list()
			if err != nil {
				return err
			}
			var done ca.WitnessesDone
			if err := a.withAdmin(cmd.Context(), func(ad *admin) error {
				return ad.call(cmd.Context(), http.MethodPost, "/admin/witnesses", ca.WitnessesAsk{Witnesses: list}, &done)
			}); err != nil {
				return err
			}
			switch {
			case a.json:
				return a.printJSON(done)
			case done.Order != "":
				a.say("an operator has to order it, from their own machine (%s):", done.Order)
				a.say("  breakglass-ca order %s%s --reason WHY", statement.OrderChangeWitnesses, w.args())
			default:
				a.say("the site has these witnesses; breakglass-ca status shows who cosigned what")
			}
			return nil
		},
	})
	w.add(set.Flags())
	return group("witnesses", "Say who witnesses the ledger", set)
}

// orderWitnesses is the operator's half.
func (a *app) orderWitnesses() *cobra.Command {
	var w witnessFlags
	var reason string
	c := &cobra.Command{
		Use: statement.OrderChangeWitnesses + " --witness \"VKEY URL\" --quorum N --reason WHY", Short: "Give the ledger exactly these witnesses", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return usagef("say --reason WHY: it stands in the ledger for ever")
			}
			list, err := w.list()
			if err != nil {
				return err
			}
			o, err := a.operator(cmd.Context())
			if err != nil {
				return err
			}
			defer o.forget()
			pins, err := o.me.Home.Pins()
			if err != nil {
				return err
			}
			pins.Site.Witnesses = list
			if _, err := ledger.ParseWitnesses(pins.Site); err != nil { // before a touch for nothing
				return usagef("%v", err)
			}
			a.say("witnesses %s:", statement.WitnessesFingerprint(list))
			for _, l := range list {
				a.say("  %s", l)
			}
			done, err := o.agent.ChangeWitnesses(cmd.Context(), o.client, o.name, list, reason)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			a.say("the site has these witnesses; clients take them over by themselves, pins that lie elsewhere don't: give their owners new ones")
			return nil
		},
	}
	w.add(c.Flags())
	c.Flags().StringVar(&reason, "reason", "", "why, in a line")
	c.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}
