package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/transcript"
)

// maxRecovery bounds the file of a recovery key's public half.
const maxRecovery = 8 << 10

func newRecipientsCmd(a *app) *cobra.Command {
	c := a.withDir(&cobra.Command{
		Use: "recipients", Short: "Show to whom recordings are sealed, and who could read them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.recipients(cmd)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(l)
			}
			return a.printRecipients(l)
		},
	})
	check := a.withDir(&cobra.Command{
		Use: "check", Short: "Say what would keep recordings from being read; fails if nothing new could be", Args: cobra.NoArgs,
		Long: `Check fails (exit 1) of a set with which nothing new could be read, or by somebody it should: no reader, all readers' enrolments lapsed, recipients of two
kinds. It warns of the rest: one reader alone, no recovery key, readers whose enrolment lapsed or whose keys are revoked, readers without an identity.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.recipients(cmd)
			if err != nil {
				return err
			}
			if a.json {
				if err := a.printJSON(l.Findings); err != nil {
					return err
				}
			} else {
				a.printFindings(a.stdout, l.Findings, "")
				if len(l.Findings) == 0 {
					fmt.Fprintln(a.stdout, "ok: recordings can be read by more than one, and with the recovery key")
				}
			}
			for _, f := range l.Findings {
				if f.Fatal {
					return withHint(fmt.Errorf("recordings could not be read as they should: %s", f.Text), f.Hint)
				}
			}
			return nil
		},
	})
	var reason, why string
	remove := &cobra.Command{
		Use: "remove PERSON --reason WHY", Short: "Seal nothing more to a person, by your touch", Args: cobra.ExactArgs(1),
		Long: `Remove is for an identity that may be in other hands. What is sealed to it already stays so; the person may make another (breakglass reviewer init). To take
everything from somebody: breakglass-ca revoke person.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("say --reason WHY: it stands in the ledger for ever")
			}
			done, err := a.order(cmd.Context(), statement.OrderRemoveRecipients, args[0], reason)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			a.say("nothing more is sealed to %s", done.Target)
			for _, r := range done.Removed {
				a.say("  no more     %s", statement.RecipientFingerprint(r))
			}
			if done.Readers == 0 {
				a.say("nobody is left to read: no session opens until a reader runs `breakglass reviewer init`")
			}
			return nil
		},
	}
	remove.Flags().StringVar(&reason, "reason", "", "why, in a line")
	remove.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	recovery := &cobra.Command{
		Use: "recovery FILE --reason WHY", Short: "Seal every recording to a recovery key too, by your touch", Args: cobra.ExactArgs(1),
		Long: `FILE is the public half that "breakglass recovery init" wrote on an offline machine. Hold its fingerprint against the one on the paper before you touch. It takes
the place of the recovery key before; that one goes on opening what was sealed to it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if why == "" {
				return usagef("say --reason WHY: it stands in the ledger for ever")
			}
			age, err := readRecovery(args[0])
			if err != nil {
				return err
			}
			o, err := a.operator(cmd.Context())
			if err != nil {
				return err
			}
			defer o.forget()
			a.say("recovery key %s", statement.RecipientFingerprint(age))
			done, err := o.agent.SetRecovery(cmd.Context(), o.client, o.name, age, why)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			a.say("every recording from now on is sealed to it, too")
			a.say("next: prove that the paper opens it, now and in each drill: breakglass recovery check FILE, on the offline machine")
			return nil
		},
	}
	recovery.Flags().StringVar(&why, "reason", "", "why, in a line")
	recovery.Flags().BoolVar(&a.show, "show", false, "print the statement before it is signed")
	c.AddCommand(check, remove, recovery)
	return c
}

// readRecovery reads the public half: one recipient, comments beside.
func readRecovery(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the recovery key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecovery))
	if err != nil {
		return "", fmt.Errorf("reading the recovery key: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		return "", withHint(fmt.Errorf("reading the recovery key: %s names %d recipients, want one", path, len(found)), "breakglass recovery init   writes such a file")
	}
	if _, err := transcript.ParseRecipients(found); err != nil {
		return "", withHint(fmt.Errorf("reading the recovery key: %w", err), "breakglass recovery init   writes such a file; the paper never comes here")
	}
	return found[0], nil
}

func (a *app) recipients(cmd *cobra.Command) (*ca.RecipientList, error) {
	var l ca.RecipientList
	err := a.withAdmin(cmd.Context(), func(ad *admin) error {
		return ad.call(cmd.Context(), http.MethodGet, "/admin/recipients", nil, &l)
	})
	return &l, err
}

// readersOf holds the readers of a policy, in force or not, against the identities that the CA's service knows; nothing if none runs.
func (a *app) readersOf(ctx context.Context, p *policy.Policy) ([]finding, error) {
	var l ca.RecipientList
	err := a.withService(ctx, func(ad *admin) error {
		return ad.call(ctx, http.MethodGet, "/admin/recipients", nil, &l)
	})
	if errors.Is(err, errNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	hybrid, classical := []string{}, []string{}
	for _, r := range l.Recipients {
		if !p.IsReader(r.Person) {
			continue
		}
		if strings.HasPrefix(r.Age, "age1pq1") {
			hybrid = append(hybrid, string(r.Person))
		} else {
			classical = append(classical, string(r.Person))
		}
	}
	switch {
	case len(hybrid) > 0 && len(classical) > 0:
		return []finding{{policy.SeverityError.String(), "", 0, fmt.Sprintf("its readers' recipients are of two kinds, which never stand in one envelope: post-quantum of %s, classical of %s; nothing would be sealed to some of them",
			strings.Join(hybrid, ", "), strings.Join(classical, ", ")), "breakglass reviewer rotate   by those with a classical one"}}, nil
	case len(hybrid)+len(classical) == 0 && len(l.Recipients) > 0:
		return []finding{{policy.SeverityError.String(), "", 0, "none of its readers has an identity for reading: no session would open", "breakglass reviewer init   by one of them; or keep a reader who has one"}}, nil
	}
	return nil, nil
}

// counts are the words for whether something is sealed to a recipient.
func counts(r ca.ListedRecipient) string {
	switch {
	case r.Counts:
		return "yes"
	case r.Why == ledger.LeftOutLapsed:
		return "no: enrolment lapsed"
	case r.Why == ledger.LeftOutRevoked:
		return "no: keys revoked"
	case r.Why == ledger.LeftOutMany:
		return "no: too many"
	case r.Why == ledger.LeftOutMixed:
		return "no: another kind"
	}
	return "no: no reader"
}

func (a *app) printRecipients(l *ca.RecipientList) error {
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "reader\tsealed by\tcounts\tfingerprint")
	for _, r := range l.Recipients {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Person, clean(r.Sealed), counts(r), shortFingerprint(r.Fingerprint))
	}
	if l.Recovery != "" {
		fmt.Fprintf(w, "(recovery)\tpaper\tyes\t%s\n", shortFingerprint(l.Recovery))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if l.Set > 0 {
		fmt.Fprintf(a.stdout, "\nall %s; the set is entry %d of the ledger\n", l.Kind, l.Set)
	}
	a.printFindings(a.stderr, l.Findings, "breakglass-ca: ")
	return nil
}

// shortFingerprint is as much of it as is read aloud; --json has the whole.
func shortFingerprint(s string) string {
	const enough = len("SHA256:") + 12
	return s[:min(len(s), enough)]
}

// printFindings says each with what to type.
func (a *app) printFindings(w io.Writer, fs []ca.RecipientFault, prefix string) {
	for _, f := range fs {
		word := "warning"
		if f.Fatal {
			word = "error"
		}
		fmt.Fprintf(w, "%s%s: %s\n%shint: %s\n", prefix, word, clean(f.Text), prefix, clean(f.Hint))
	}
}
