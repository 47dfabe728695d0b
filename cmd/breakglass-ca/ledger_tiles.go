package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/ledger"
)

func newLedgerTilesCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "tiles TO", Short: "Write the whole ledger as tiles (C2SP tlog-tiles), for stock tools and mirrors", Args: cobra.ExactArgs(1),
		Long: `Write the whole ledger as a directory of tiles (C2SP tlog-tiles): checkpoint, tile/0/000 and so on, tile/entries/000 and so on. Any client of such logs reads it, and
stock checkers such as Tessera's fsck prove it. The entries hold what people said: who gets the directory reads them.

A directory that was written before is brought up to date. The key that the ledger is checked with stands in key.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var signed []byte
			var site ledger.Site
			err := a.withAdmin(cmd.Context(), func(ad *admin) error {
				if err := ad.call(cmd.Context(), http.MethodGet, "/checkpoint", nil, &signed); err != nil {
					return err
				}
				var s struct {
					Site ledger.Site `json:"site"`
				}
				if err := ad.call(cmd.Context(), http.MethodGet, "/v1/site", nil, &s); err != nil {
					return err
				}
				site = s.Site
				return nil
			})
			if err != nil {
				return err
			}
			head, err := ledger.OpenCheckpoint(string(signed), site.LedgerKey)
			if err != nil {
				return err
			}
			if err := writeTiles(filepath.Join(a.dir, "ca.db"), args[0], head); err != nil {
				return err
			}
			for name, b := range map[string][]byte{"key": []byte(site.LedgerKey + "\n"), "checkpoint": signed} {
				if err := durable.WriteFile(filepath.Join(args[0], name), b, 0o600); err != nil {
					return err
				}
			}
			a.say("%s, signed, are in %s", entries(head.Size), args[0])
			return nil
		},
	})
}

// writeTiles makes the tree of the database's entries anew and writes its tiles, if it has the head's root.
func writeTiles(path, to string, head ledger.Checkpoint) error {
	db, err := state.OpenStored(path)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := durable.MkdirAll(to, 0o700); err != nil {
		return err
	}
	write := func(t ledger.Tile, b []byte) error {
		p := filepath.Join(to, filepath.FromSlash(ledger.TilePath(t)))
		if st, err := os.Stat(p); err == nil && st.Size() == int64(len(b)) {
			return nil // tiles never change
		}
		if err := durable.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return err
		}
		return durable.WriteFile(p, b, 0o600)
	}
	var tree ledger.Memory
	var bundle []byte
	for b, err := range db.Entries(head.Size) {
		if err == nil {
			err = tree.Append(b)
		}
		if err == nil {
			bundle, err = ledger.AppendBundle(bundle, b)
		}
		if err != nil {
			return err
		}
		if n := tree.Size(); n%ledger.BundleEntries == 0 || n == head.Size {
			t, _ := ledger.Bundle((n-1)/ledger.BundleEntries, n)
			if err := write(t, bundle); err != nil {
				return err
			}
			bundle = nil
		}
	}
	if got, err := tree.Checkpoint(head.Size); err != nil || got != head.Pin() {
		return fmt.Errorf("%w: the database's entries are not those of the signed head of %s", errVerify, entries(head.Size))
	}
	for _, t := range ledger.Tiles(head.Size) {
		if t.L < 0 {
			continue
		}
		b, err := ledger.HashTile(t, &tree)
		if err != nil {
			return err
		}
		if err := write(t, b); err != nil {
			return err
		}
	}
	return nil
}
