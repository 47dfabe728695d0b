package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/transcript"
	"breakglass/transcript/derive"
)

// maxExtract bounds an extracted file: what a hostile client claims to have written at the end of an exabyte isn't written there.
const maxExtract = 1 << 40

func newFilesCmd(a *app) *cobra.Command {
	var r reading
	var dir string
	c := &cobra.Command{
		Use:   "files ID [N…] | files FILE --trust PINS [N…]",
		Short: "List the files that sftp and scp carried, with hashes; --extract DIR takes them out",
		Long: `Files verifies a recording, opens it with your reviewer's identity (that it was read is an entry), and lists what sftp and scp carried, read out of the raw bytes.
What went through a shell, rsync, git or any other program isn't in the list; the recording has it all the same (breakglass export).

--extract writes the files, or those whose numbers are given, into a new directory, as N-NAME. Nothing of the recorded path is used but its last part.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			want := map[int]bool{}
			for _, s := range args[1:] {
				n, err := strconv.Atoi(s)
				if err != nil || n < 1 {
					return usagef("%q is no number of a file", s)
				}
				want[n-1] = true
			}
			if len(want) > 0 && dir == "" {
				return usagef("numbers go with --extract DIR")
			}
			return a.read(cmd.Context(), args[0], r, func(rd *transcript.Reader) error {
				if dir == "" {
					report, err := derive.Derive(rd.Events(), derive.Options{})
					if err != nil {
						return err
					}
					return a.printFiles(string(rd.Header().Session), report, nil)
				}
				return a.extract(rd, dir, want)
			})
		},
	}
	c.Flags().StringVar(&dir, "extract", "", "write them into this `DIR`, which must not exist")
	r.flags(c, "files")
	return c
}

// extract writes the content of transfers into dir. They lie under their numbers until it is known what they were called.
func (a *app) extract(rd *transcript.Reader, dir string, want map[int]bool) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("extracting: %w", err)
	}
	open := map[int]*os.File{}
	broken := map[int]bool{}
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	part := func(n int) string { return filepath.Join(dir, fmt.Sprintf("%d.part", n+1)) }
	report, err := derive.Derive(rd.Events(), derive.Options{Sink: func(n int, at int64, data []byte) error {
		if len(want) > 0 && !want[n] {
			return nil
		}
		if at < 0 || at > maxExtract-int64(len(data)) {
			broken[n] = true
			return nil
		}
		f := open[n]
		if f == nil {
			if len(open) >= 100 { // a recording may hold thousands: those that are over are closed
				for o, old := range open {
					if err := old.Close(); err != nil {
						return err
					}
					delete(open, o)
				}
			}
			if f, err = os.OpenFile(part(n), os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
				return err
			}
			open[n] = f
		}
		_, err := f.WriteAt(data, at)
		return err
	}})
	if err != nil {
		return fmt.Errorf("extracting: %w", err)
	}
	for n, f := range open {
		if err := f.Close(); err != nil {
			return fmt.Errorf("extracting: %w", err)
		}
		delete(open, n)
	}
	names := map[int]string{}
	for n, t := range report.Transfers {
		if len(want) > 0 && !want[n] {
			continue
		}
		if _, err := os.Lstat(part(n)); errors.Is(err, os.ErrNotExist) {
			if err := os.WriteFile(part(n), nil, 0o600); err != nil { // an empty file
				return fmt.Errorf("extracting: %w", err)
			}
		}
		to := fmt.Sprintf("%d-%s", n+1, fileName(t.Path))
		if !t.Whole || broken[n] {
			to += ".incomplete"
		}
		if err := os.Rename(part(n), filepath.Join(dir, to)); err != nil {
			return fmt.Errorf("extracting: %w", err)
		}
		names[n] = filepath.Join(dir, to)
	}
	for n := range want {
		if n >= len(report.Transfers) {
			return withHint(fmt.Errorf("there is no file %d: the recording carried %d", n+1, len(report.Transfers)), "breakglass files "+string(rd.Header().Session))
		}
	}
	return a.printFiles(string(rd.Header().Session), report, names)
}

// fileName is a recorded path's last part, of characters that no file system and no terminal takes for anything else.
func fileName(p string) string {
	p = path.Base(strings.ReplaceAll(p, `\`, "/"))
	p = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+=@", r) {
			return r
		}
		return '_'
	}, p)
	p = strings.TrimLeft(p, ".-")
	if len(p) > 100 {
		p = p[len(p)-100:]
	}
	if p == "" {
		return "file"
	}
	return p
}

// fileJSON is a transfer for programs.
type fileJSON struct {
	N int `json:"n"`
	derive.Transfer
	Extracted string `json:"extracted,omitempty"`
}

func (a *app) printFiles(session string, r *derive.Report, names map[int]string) error {
	if a.json {
		list := []fileJSON{}
		for n, t := range r.Transfers {
			list = append(list, fileJSON{n + 1, t, names[n]})
		}
		return a.printJSON(struct {
			Session string        `json:"session"`
			Files   []fileJSON    `json:"files"`
			Ops     []derive.Op   `json:"ops"`
			Notes   []derive.Note `json:"notes,omitempty"`
		}{session, list, append([]derive.Op{}, r.Ops...), r.Notes})
	}
	if len(r.Transfers) == 0 && len(r.Ops) == 0 {
		a.term.Say("No file went by sftp or scp. What went another way: breakglass export --text %s", session)
	}
	if err := writeFiles(a.stdout, r, names); err != nil {
		return err
	}
	for _, n := range r.Notes {
		a.term.Say("breakglass: warning: channel %d at %s: %s", n.Channel, n.T.Round(time.Second), clean(n.Text))
	}
	return nil
}

func writeFiles(out io.Writer, r *derive.Report, names map[int]string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if len(r.Transfers) > 0 {
		fmt.Fprintln(w, "N\tat\tby\tway\tbytes\tSHA-256\tpath")
	}
	for n, t := range r.Transfers {
		sum := "incomplete"
		if t.Whole {
			sum = t.SHA256.String()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", n+1, t.Start.Round(time.Second), t.By, t.Way, t.Bytes, sum, clean(t.Path))
		if names[n] != "" {
			fmt.Fprintf(w, "\t\t\t\t\t\tin %s\n", clean(names[n]))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, o := range r.Ops {
		line := fmt.Sprintf("%s %s %s", o.T.Round(time.Second), o.Name, o.Path)
		if o.Target != "" {
			line += " " + o.Target
		}
		if _, err := fmt.Fprintln(out, clean(line+": "+o.Result)); err != nil {
			return err
		}
	}
	return nil
}
