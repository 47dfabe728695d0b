package main

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"os"
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
	var trust, db, head, tiles string
	c := a.withDir(&cobra.Command{
		Use: "verify --trust PINS", Short: "Check every entry, signature and proof of a whole ledger", Args: cobra.NoArgs,
		Long: `Check every entry, signature and proof of a whole ledger, from the database itself, and make each of its decisions again.

The ledger's key, and a head that must still be part of it, come from PINS, which has to be from elsewhere: from ` + "`breakglass pins --json`" + `
on a person's machine. With --db and --checkpoint a copy is checked without a CA, with --tiles a directory that ` + "`breakglass-ca ledger tiles`" + ` wrote.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if trust == "" {
				return usagef("say --trust PINS: what a ledger says of its own key proves nothing (breakglass pins --json on a person's machine prints them)")
			}
			if (db == "") != (head == "") {
				return usagef("--db and --checkpoint go together")
			}
			if tiles != "" && db != "" {
				return usagef("--tiles has its own checkpoint: leave out --db and --checkpoint")
			}
			text, err := readLimited(trust, cmd.InOrStdin(), api.MaxPins)
			if err != nil {
				return err
			}
			pins, err := api.ParsePins(text)
			if err != nil {
				return withHint(fmt.Errorf("reading %s: %w", trust, err), "breakglass pins --json >PINS     on a machine that is enrolled")
			}
			if tiles != "" {
				signed, err := readLimited(filepath.Join(tiles, "checkpoint"), nil, ledger.MaxCheckpoint)
				if err != nil {
					return withHint(fmt.Errorf("reading the tiles' checkpoint: %w", err), "breakglass-ca ledger tiles DIR     on the CA's machine writes them")
				}
				return a.verifyLedger(tilesSource(os.DirFS(tiles)), string(signed), pins)
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
			stored, err := state.OpenStored(db)
			if err != nil {
				return err
			}
			defer stored.Close()
			return a.verifyLedger(&ledgerSource{size: stored.Size, entries: stored.Entries}, string(signed), pins)
		},
	})
	c.Flags().StringVar(&trust, "trust", "", "pins from elsewhere")
	c.Flags().StringVar(&db, "db", "", "a copy of ca.db")
	c.Flags().StringVar(&head, "checkpoint", "", "the signed head of that copy")
	c.Flags().StringVar(&tiles, "tiles", "", "a `DIR` of tiles, with their checkpoint")
	return c
}

// ledgerSource is where the entries of a ledger are read.
type ledgerSource struct {
	size    int64 // how many there are at most
	entries func(n int64) iter.Seq2[[]byte, error]
	tiles   fs.FS // of hashes; nil: it has none
}

func tilesSource(dir fs.FS) *ledgerSource {
	return &ledgerSource{size: 1<<63 - 1, tiles: dir, entries: func(n int64) iter.Seq2[[]byte, error] { return ledger.TileEntries(dir, n) }}
}

// verifyLedger checks the entries of the source under the signed head, and that the pinned head is part of the same history.
func (a *app) verifyLedger(from *ledgerSource, signed string, pins api.Pins) error {
	pinned, err := ledger.OpenCheckpoint(pins.Checkpoint, pins.Site.LedgerKey)
	if err != nil {
		return err
	}
	limit := from.size
	if c, err := ledger.OpenCheckpoint(signed, pins.Site.LedgerKey); err == nil {
		limit = min(limit, c.Size) // the service may have gone on since
	} else if from.tiles != nil {
		return fmt.Errorf("%w: the tiles' checkpoint: %w", errVerify, err)
	}
	keep := pinned.Size // of how many entries the tree is wanted
	if from.tiles != nil {
		keep = limit
	}
	var tree ledger.Memory
	var again replay.Pass
	at := int64(0)
	report, err := ledger.Verify(func(yield func([]byte, error) bool) {
		for b, err := range from.entries(limit) {
			if err == nil && tree.Size() < keep {
				err = tree.Append(b)
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
	if errors.Is(err, state.ErrEntries) || errors.Is(err, ledger.ErrTile) {
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
	if from.tiles != nil {
		for _, err := range ledger.CheckTiles(from.tiles, &tree) {
			faults = append(faults, err.Error())
		}
	}
	if had, err := tree.Checkpoint(pinned.Size); err != nil {
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
