package main

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
)

func newRestoreCmd(a *app) *cobra.Command {
	var trust string
	c := a.withDir(&cobra.Command{
		Use: "restore BACKUP", Short: "Make a CA out of a backup; it issues nothing until its jumps brought what came after it", Args: cobra.ExactArgs(1),
		Long: `Make a CA out of a backup, in a directory that must be empty. Every hash of the manifest is checked, and every entry, signature and proof of the
ledger; the tables are made anew from the entries.

The CA that comes of it serves reads and keeps running sessions going, and issues nothing: what happened after the backup is missing. Its jumps
bring back what they keep of that. When each has, it goes on by itself; ` + "`breakglass-ca status`" + ` says how far that is.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg := ca.RestoreConfig{From: args[0], Now: time.Now}
			var err error
			if cfg.Dir, err = filepath.Abs(a.dir); err != nil {
				return err
			}
			if trust != "" {
				text, err := readLimited(trust, cmd.InOrStdin(), api.MaxPins)
				if err != nil {
					return err
				}
				pins, err := api.ParsePins(text)
				if err != nil {
					return withHint(fmt.Errorf("reading %s: %w", trust, err), "breakglass pins --json >PINS     on a machine that is enrolled")
				}
				cfg.LedgerKey = pins.Site.LedgerKey
			}
			r, err := ca.Restore(cmd.Context(), cfg)
			if err != nil {
				return a.explainRestore(err)
			}
			if a.json {
				return a.printJSON(map[string]any{"origin": r.Manifest.Origin, "epoch": r.Manifest.Epoch, "entries": r.Manifest.Entries, "made": r.Manifest.Time, "last": r.Last.UTC(),
					"checkpoint": r.Manifest.Checkpoint, "elsewhere": r.Manifest.Elsewhere, "findings": r.Report.Findings})
			}
			dir := ""
			if a.dir != defaultDir {
				dir = " --dir " + a.dir
			}
			a.say("restored into %s", cfg.Dir)
			a.say("  site        %s, %s", r.Manifest.Name, r.Manifest.Origin)
			a.say("  ledger      %s, checked; the last of %s", entries(r.Manifest.Entries), r.Last.Local().Format("2006-01-02 15:04:05"))
			a.say("  made        %s, %s ago", r.Manifest.Time.Local().Format("2006-01-02 15:04:05"), r.Age.Round(time.Second))
			a.say("  missing     all that happened since: the jumps bring it back")
			if trust == "" {
				a.say("  unproved    that it is your CA's: --trust PINS would")
			}
			for _, e := range r.Manifest.Elsewhere {
				a.say("  not in it   %s", clean(e))
			}
			for _, f := range r.Report.Findings {
				a.say("  finding     %s", clean(f.String()))
			}
			a.say("next:")
			a.say("  breakglass-ca serve%s", dir)
			a.say("  breakglass-ca status%s     what is back, and what it waits for", dir)
			return nil
		},
	})
	c.Flags().StringVar(&trust, "trust", "", "pins from elsewhere: the backup must be of their ledger")
	return c
}

func (a *app) explainRestore(err error) error {
	switch {
	case errors.Is(err, ca.ErrNotEmpty):
		return withHint(err, "breakglass-ca restore BACKUP --dir NEWDIR     and keep the old one: it is evidence")
	case errors.Is(err, ca.ErrNoBackup):
		return withHint(err, "name the directory that `breakglass-ca backup` made; one called .partial was never finished")
	case errors.Is(err, ca.ErrBackup), errors.Is(err, state.ErrEntries):
		return withHint(err, "take another backup, or another copy of this one")
	case errors.Is(err, state.ErrNewer):
		return withHint(err, "use the breakglass-ca that made it, or a later one")
	}
	return err
}

func newResumeCmd(a *app) *cobra.Command {
	var without []string
	var q ca.ResumeAsk
	c := a.withDir(&cobra.Command{
		Use: "resume", Short: "Go on without what did not come back after a restore", Args: cobra.NoArgs,
		Long: `Go on without what did not come back after a restore. It is refused, and says what is missing, until that is named: jumps that have not shown what
they keep (--without), entries that are known to have been there (--lose). Whoever saw such an entry will follow this CA no more.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range without {
				j, err := name.ParseJump(s)
				if err != nil {
					return usage(err)
				}
				q.Without = append(q.Without, j)
			}
			if err := a.withAdmin(cmd.Context(), func(ad *admin) error {
				return ad.call(cmd.Context(), http.MethodPost, "/admin/resume", q, &struct{}{})
			}); err != nil {
				return err
			}
			a.say("the CA goes on")
			return nil
		},
	})
	c.Flags().StringArrayVar(&without, "without", nil, "a `JUMP` that has not shown what it keeps (again for more)")
	c.Flags().Int64Var(&q.Lose, "lose", 0, "how many entries are given up")
	return c
}

// frozenJSON is what programs read of a frozen ledger.
type frozenJSON struct {
	Why     string       `json:"why"`
	Since   time.Time    `json:"since"`
	Backup  time.Time    `json:"backup,omitzero"`
	From    string       `json:"from,omitempty"`
	Theirs  string       `json:"theirs,omitempty"`
	Ours    string       `json:"ours,omitempty"`
	Known   int64        `json:"known_entries,omitempty"`
	Brought []ca.Brought `json:"brought,omitempty"`
	Waits   []name.Jump  `json:"waits,omitempty"`
}

func frozenOf(f *ca.FrozenStatus) *frozenJSON {
	if f == nil {
		return nil
	}
	return &frozenJSON{string(f.Why), f.Since, f.Backup, f.From, f.Theirs, f.Ours, f.Known, f.Brought, f.Waits}
}

// printFrozen says why nothing is issued, and what to type.
func (a *app) printFrozen(line func(what, format string, args ...any), f *ca.FrozenStatus) {
	switch f.Why {
	case ca.FrozenRestored:
		line("FROZEN", "nothing is issued: restored from a backup of %s, what came after it is missing", f.Backup.Local().Format("2006-01-02 15:04:05"))
	case ca.FrozenBehind:
		line("FROZEN", "nothing is issued: the ledger had %s by a head that it signed, it has %d", entries(f.Known), f.Now)
		line("", "shown by %s", f.From)
	case ca.FrozenForked:
		line("FROZEN", "nothing is issued: the ledger FORKED")
		line("", "%s holds a head of %s, signed by this CA, of another history", f.From, entries(f.Known))
		line("", "this CA went on from an old copy. Both heads are in frozen.json; keep them.")
		line("", "if the old copy is at hand: breakglass-ca restore BACKUP --dir NEWDIR")
		line("", "   its jumps bring back what came after it; what was added since is lost")
		line("", "if it isn't: breakglass-ca succeed init --help")
		return
	}
	for _, b := range f.Brought {
		line("", "jump %s keeps %s", b.Jump, entries(b.Entries))
	}
	for _, j := range f.Waits {
		line("", "waits for jump %s to show what it keeps", j)
	}
	line("", "if it never comes back: breakglass-ca resume")
}
