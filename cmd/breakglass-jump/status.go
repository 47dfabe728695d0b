package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/jump"
	"breakglass/jump/witness"
)

// statusEvery is how old a status can be.
const statusEvery = time.Second

// status is status.json.
type status struct {
	jump.State
	Running     []jump.Running `json:"running"`
	JournalLeft int64          `json:"journal_left"`
	JournalSize int64          `json:"journal_size"`
	PID         int            `json:"pid"`
	// Witness is how the jump stands as a witness of the CA's ledger.
	Witness witness.Status `json:"witness"`
}

func newStatusCmd() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what this jump does",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := directory(dir)
			c, err := d.readConfig()
			if err != nil {
				return err
			}
			pins, err := d.readPins()
			if err != nil {
				return err
			}
			s, err := d.readStatus()
			if err != nil {
				return withHint(fmt.Errorf("%s does not run: %w", c.Name, err), "breakglass-jump serve --dir "+dir)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return json.NewEncoder(out).Encode(struct {
					Name   string   `json:"name"`
					Origin string   `json:"origin"`
					Listen []string `json:"listen"`
					*status
				}{c.Name, pins.Site.Origin, c.Listen, s})
			}
			fmt.Fprintf(out, "%s of %s runs (process %d) on %v\n", c.Name, pins.Site.Origin, s.PID, c.Listen)
			if !s.Draining.IsZero() {
				fmt.Fprintf(out, "  DRAINING    lets nobody in, and is gone with the last session, at %s at the latest\n", s.Draining.Local().Format("15:04:05"))
			}
			fmt.Fprintf(out, "  sessions    %d running, %d recordings not stored yet\n", s.Sessions, s.Unsent)
			if !s.BehindSince.IsZero() && time.Since(s.BehindSince) > lateStore {
				fmt.Fprintf(out, "  LATE        %s are recorded and not in the store yet, the oldest since %s: is the CA there?\n", size(s.Behind), s.BehindSince.Local().Format("15:04:05"))
			}
			fmt.Fprintf(out, "  facts       %d, of which the CA has %d\n", s.Facts, s.Acked)
			switch w := s.Witness; {
			case w.Problem != "":
				fmt.Fprintf(out, "  WITNESS     %d entries of the ledger cosigned and kept; nothing newer: %s\n", w.Size, w.Problem)
			default:
				fmt.Fprintf(out, "  witness     %d entries of the ledger cosigned and kept\n", w.Size)
			}
			fmt.Fprintf(out, "  hosts       %d names with a host certificate\n", s.Names)
			if s.Deaf {
				fmt.Fprintln(out, "  DEAF        the CA gives no sign of life: what it revokes now goes on here until it does")
			}
			fmt.Fprintf(out, "  journal     %d of %d MiB free\n", s.JournalLeft>>20, s.JournalSize>>20)
			return writeRunning(out, s.Running)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir, "the jump's directory")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// lateStore is how long what was recorded may take to the store before an operator reads of it: while all is well it is a second.
const lateStore = 10 * time.Second

// writeRunning lists the sessions that run.
func writeRunning(out io.Writer, list []jump.Running) error {
	if len(list) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tperson\twhat\tsince\tuntil\tin\tout")
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s@%s\t%s\t%s\t%s\t%s\n", r.ID, r.Person, r.Login, r.Host, r.Since.Local().Format("15:04:05"), r.Until.Local().Format("15:04:05"),
			size(r.BytesIn), size(r.BytesOut))
	}
	return w.Flush()
}

func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// readStatus also asks whether the process that wrote it is there: a killed one leaves its file behind.
func (d directory) readStatus() (*status, error) {
	b, err := os.ReadFile(d.path("status.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it wrote no status")
	}
	if err != nil {
		return nil, err
	}
	var s status
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("its status can't be read: %w", err)
	}
	if err := syscall.Kill(s.PID, 0); errors.Is(err, syscall.ESRCH) {
		return nil, fmt.Errorf("process %d is gone", s.PID)
	}
	return &s, nil
}
