package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/ca/state"
)

func newBackupCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "backup DIR", Short: "Copy ledger, configuration, sealed keys and envelopes to DIR, while the service runs", Args: cobra.ExactArgs(1),
		Long: `Copy what a CA can't be without to DIR, which must not exist: the ledger as of one commit under its signed head, config.toml and the files that
it names, the keys as they are kept, the transcripts' envelopes. The service goes on meanwhile.

Not in it: the standby keys (they belong off the CA), credentials and keys of an agent, geo databases, transcripts. It says which.
DIR is there once all of it is on the disk; what an interrupted run leaves is called DIR.partial, and the next run takes it away.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var m *ca.Manifest
			err := a.withAdmin(ctx, func(ad *admin) (err error) {
				dir, err := filepath.Abs(a.dir)
				if err != nil {
					return err
				}
				m, err = ca.Backup(ctx, ca.BackupConfig{Dir: dir, To: args[0], Now: time.Now, Head: func(ctx context.Context, size int64) (string, error) {
					var signed []byte
					err := ad.call(ctx, http.MethodGet, fmt.Sprintf("/admin/head?size=%d", size), nil, &signed)
					return string(signed), err
				}})
				return err
			})
			if err != nil {
				return explainBackup(err, args[0])
			}
			if a.json {
				return a.printJSON(m)
			}
			a.say("backed up to %s", args[0])
			a.say("  ledger      %s, %s", entries(m.Entries), m.Origin)
			a.say("  files       %d, named with their hashes in manifest.json", len(m.Files))
			for _, e := range m.Elsewhere {
				a.say("  not in it   %s", clean(e))
			}
			a.say("next: carry it off this machine")
			return nil
		},
	})
}

func explainBackup(err error, to string) error {
	switch {
	case errors.Is(err, state.ErrFull):
		return withHint(fmt.Errorf("no room for the backup: %w", err), "breakglass-ca backup DIR     on a disk with more room")
	case errors.Is(err, ca.ErrNotEmpty):
		return withHint(err, fmt.Sprintf("breakglass-ca backup %s-%s", to, time.Now().UTC().Format("20060102-1504")))
	}
	return err
}
