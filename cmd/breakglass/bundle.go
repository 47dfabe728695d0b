package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"breakglass/agent/home"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/review/evidence"
)

func newBundleCmd(a *app) *cobra.Command {
	var out, why string
	var envelope, force bool
	c := &cobra.Command{
		Use:   "bundle ID -o FILE",
		Short: "Write all that proves a request into one file, to be verified offline",
		Long: `Bundle writes the entries, proofs and sealed recordings of a request into one file, and verifies it as it lies there.
With --envelope it holds the envelopes too: whoever has a reader's identity can then open the recordings, and that they were handed out is an entry.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return withStatus(exitUsage, errors.New("where to? name a file with -o"), "breakglass bundle "+args[0]+" -o FILE")
			}
			return a.bundle(cmd.Context(), args[0], out, why, envelope, force)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write")
	c.Flags().StringVar(&why, "why", "bundle", "why the envelopes are handed out (recorded)")
	c.Flags().BoolVar(&envelope, "envelope", false, "include the envelopes (recorded as a reading)")
	c.Flags().BoolVar(&force, "force", false, "replace the file if it is there")
	return c
}

// caSource fetches a bundle's parts under a pass.
type caSource struct{ *client.Client }

func (s caSource) Evidence(ctx context.Context, id name.RequestID) (*api.Evidence, error) {
	return s.Client.Evidence(ctx, id)
}

func (s caSource) Transcript(ctx context.Context, id name.SessionID) (io.ReadCloser, error) {
	return s.Client.Transcript(ctx, id)
}

var _ evidence.Source = caSource{}

// trust is what this machine pinned, with the newest checkpoint that it has seen.
func (a *app) trust() (evidence.Trust, []statement.Checkpoint, error) {
	p, err := a.home.Pins()
	if err != nil {
		return evidence.Trust{}, nil, err
	}
	t := evidence.Trust(p)
	pinned := t.Pinned()
	if text, err := (home.Memory{Home: a.home}).Last(); err == nil && text != "" {
		if c, err := ledger.OpenCheckpoint(text, p.Site.LedgerKey); err == nil && (len(pinned) == 0 || c.Size > pinned[0].Size) {
			t.Checkpoint = text
			pinned = append(pinned, c.Pin())
		}
	}
	return t, pinned, nil
}

// bundle writes the file and says how it verifies.
func (a *app) bundle(ctx context.Context, typed, out, why string, envelope, force bool) error {
	if _, err := os.Lstat(out); err == nil && !force {
		return withHint(usagef("%s is there already", out), "--force replaces it")
	}
	c, err := a.pass(ctx)
	if err != nil {
		return err
	}
	what, err := choose(ctx, c, typed)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".breakglass-bundle-*")
	if err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	v, err := a.fill(ctx, f, c, what, "", envelope, why, nil)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	if err := os.Rename(f.Name(), out); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	a.status = v.Result.ExitStatus()
	if a.json {
		return a.printJSON(struct {
			File    string            `json:"file"`
			Bytes   int64             `json:"bytes"`
			Verdict *evidence.Verdict `json:"verdict"`
		}{out, size, v})
	}
	a.term.Say("%s (%d bytes) holds %s: %s", out, size, what.request, clean(v.Line()))
	a.term.Say("Next: breakglass verify %s --trust PINS", out)
	a.term.Say("PINS is yours, or from who verifies: breakglass pins --json >PINS")
	return nil
}

// fill writes a bundle into f and verifies what lies there, as it lies there. only narrows it to one session's recording.
func (a *app) fill(ctx context.Context, f *os.File, c *client.Client, what chosen, only name.SessionID, envelope bool, why string, ids []age.Identity) (*evidence.Verdict, error) {
	trust, pinned, err := a.trust()
	if err != nil {
		return nil, err
	}
	want := evidence.Wanted{Request: what.request, Only: only, LedgerKey: trust.Site.LedgerKey, Pinned: pinned}
	if envelope { // before the evidence is fetched: the entries that record it belong into the bundle
		if want.Envelopes, err = readEnvelopes(ctx, c, what, only, why); err != nil {
			return nil, err
		}
	}
	e, recordings, err := evidence.Collect(ctx, caSource{c}, want)
	if err != nil {
		return nil, err
	}
	if err := evidence.Write(f, e, recordings); err != nil && !errors.Is(err, evidence.ErrLength) { // the verdict says that
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading bundle: %w", err)
	}
	return evidence.Verify(f, trust, evidence.Options{Identities: ids, Only: only, Fresh: true}), nil
}
