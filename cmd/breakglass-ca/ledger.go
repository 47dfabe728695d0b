package main

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/ledger"
	"breakglass/review/replay"
)

func newLedgerCmd(a *app) *cobra.Command {
	return group("ledger", "Check the ledger", newLedgerVerifyCmd(a), newLedgerTilesCmd(a))
}

func newLedgerVerifyCmd(a *app) *cobra.Command {
	var trust, db, head string
	c := a.withDir(&cobra.Command{
		Use: "verify --trust PINS", Short: "Check every entry, signature and proof of a whole ledger", Args: cobra.NoArgs,
		Long: `Check every entry, signature and proof of a whole ledger, from the database itself, and make each of its decisions again.

The ledger's key, and a head that must still be part of it, come from PINS, which has to be from elsewhere: from ` + "`breakglass pins --json`" + `
on a person's machine. With --db and --checkpoint a copy is checked without a CA.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if trust == "" {
				return usagef("say --trust PINS: what a ledger says of its own key proves nothing (breakglass pins --json on a person's machine prints them)")
			}
			if (db == "") != (head == "") {
				return usagef("--db and --checkpoint go together")
			}
			text, err := readLimited(trust, cmd.InOrStdin(), api.MaxPins)
			if err != nil {
				return err
			}
			pins, err := api.ParsePins(text)
			if err != nil {
				return withHint(fmt.Errorf("reading %s: %w", trust, err), "breakglass pins --json >PINS     on a machine that is enrolled")
			}
			var signed []byte
			if db == "" {
				db = filepath.Join(a.dir, "ca.db")
				err = a.withAdmin(cmd.Context(), func(ad *admin) error {
					return ad.call(cmd.Context(), http.MethodGet, "/v1/checkpoint", nil, &signed)
				})
			} else {
				signed, err = readLimited(head, cmd.InOrStdin(), ledger.MaxCheckpoint)
			}
			if err != nil {
				return err
			}
			return a.verifyLedger(db, string(signed), pins)
		},
	})
	c.Flags().StringVar(&trust, "trust", "", "pins from elsewhere")
	c.Flags().StringVar(&db, "db", "", "a copy of ca.db")
	c.Flags().StringVar(&head, "checkpoint", "", "the signed head of that copy")
	return c
}

// verifyLedger checks the entries of the database under the signed head, and that the pinned head is part of the same history.
func (a *app) verifyLedger(path, signed string, pins api.Pins) error {
	db, err := state.OpenStored(path)
	if err != nil {
		return err
	}
	defer db.Close()
	pinned, err := ledger.OpenCheckpoint(pins.Checkpoint, pins.Site.LedgerKey)
	if err != nil {
		return err
	}
	limit := db.Size
	if c, err := ledger.OpenCheckpoint(signed, pins.Site.LedgerKey); err == nil {
		limit = min(limit, c.Size) // the service may have gone on since
	}
	var old ledger.Memory
	var again replay.Pass
	at := int64(0)
	report, err := ledger.Verify(func(yield func([]byte, error) bool) {
		for b, err := range db.Entries(limit) {
			if err == nil && old.Size() < pinned.Size {
				err = old.Append(b)
			}
			if e, bad := ledger.Decode(b); err == nil && bad == nil { // one that can't be read is a finding of the audit
				again.Add(at, e)
			}
			at++
			if !yield(b, err) || err != nil {
				return
			}
		}
	}, signed, pins.Site.LedgerKey)
	if errors.Is(err, state.ErrEntries) {
		err = fmt.Errorf("%w: %w", errVerify, err)
	}
	if err != nil {
		return err
	}
	faults := []string{}
	for _, f := range report.Findings {
		faults = append(faults, f.String())
	}
	faults = append(faults, again.Findings...)
	if had, err := old.Checkpoint(pinned.Size); err != nil {
		faults = append(faults, fmt.Sprintf("the pinned head has %s, the ledger only %d", entries(pinned.Size), report.Entries))
	} else if had != pinned.Pin() {
		faults = append(faults, fmt.Sprintf("the first %s are not those of the pinned head", entries(pinned.Size)))
	}
	verdict := "VERIFIED"
	if len(faults) > 0 {
		verdict = "FAILED"
	}
	if a.json {
		if err := a.printJSON(map[string]any{"verdict": verdict, "entries": report.Entries, "keys": report.Keys, "grants": report.Grants,
			"sessions": report.Sessions, "checkpoint": report.Checkpoint.Pin(), "replayed": again.Same, "not_replayed": again.Skipped, "silent": append([]int64{}, again.Silent...), "unused": texts(report.Missing.Unused), "unended": texts(report.Missing.Unended), "unstored": texts(report.Missing.Unstored), "findings": faults, "more": report.More + again.More}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.stdout, verdict)
		fmt.Fprintf(a.stdout, "  log         %s under one signed head, root %s\n", entries(report.Entries), report.Checkpoint.Root)
		fmt.Fprintf(a.stdout, "  holds       %s, %s, %s\n", count(report.Keys, "key"), count(report.Grants, "grant"), count(report.Sessions, "session"))
		m := report.Missing
		fmt.Fprintf(a.stdout, "  complete    each certificate has a session, or was never used: %d; sessions without an end %d, not stored whole %d\n", len(m.Unused), len(m.Unended), len(m.Unstored))
		for what, ids := range map[string][]string{"unused": texts(m.Unused), "no end": texts(m.Unended), "not stored": texts(m.Unstored)} {
			if len(ids) > 0 {
				fmt.Fprintf(a.stdout, "  %-11s %s\n", what, strings.Join(ids[:min(len(ids), maxListed)], " ")+more(len(ids)))
			}
		}
		fmt.Fprintf(a.stdout, "  replayed    %s with the same answer; %d can't be\n", count(again.Same, "decision"), again.Skipped)
		for _, n := range again.Silent {
			fmt.Fprintf(a.stdout, "  silent      entry %d lets somebody in, and doesn't say what the policy was asked: ask why\n", n)
		}
		for _, f := range faults {
			fmt.Fprintf(a.stdout, "  fault       %s\n", clean(f))
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: %s", errVerify, faults[0])
	}
	return nil
}

// maxListed is how many ids a line names.
const maxListed = 8

func texts[T ~string](ids []T) []string {
	out := []string{}
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}

func more(n int) string {
	if n <= maxListed {
		return ""
	}
	return fmt.Sprintf(" and %d more (--json)", n-maxListed)
}
