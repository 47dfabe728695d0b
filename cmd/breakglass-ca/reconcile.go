package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca/reconcile"
	"breakglass/ca/state"
)

func newReconcileCmd(a *app) *cobra.Command {
	var db, host string
	c := a.withDir(&cobra.Command{
		Use: "reconcile FILE... | -", Short: "Hold hosts' sshd logs against the ledger: is there a certificate that the CA did not record?", Args: cobra.MinimumNArgs(1),
		Long: `Hold hosts' sshd logs against the ledger. Each certificate of this site's CAs that sshd accepted must be one that the CA recorded, for that
login, host, time and address. One that is not was made by somebody who has the CA's key.

FILE is auth.log, or what journalctl prints:  journalctl -u ssh -o short-iso | breakglass-ca reconcile -
Take the logs from where hosts send them, not from a host that may be somebody else's by now. Lines without a time zone are of this machine's.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if db == "" {
				db = filepath.Join(a.dir, "ca.db")
			}
			if _, err := os.Stat(db); err != nil { // SQLite would say less
				return a.explainDir(err)
			}
			book, err := readBook(db)
			if err != nil {
				return err
			}
			r := reconcile.Report{Findings: []reconcile.Finding{}}
			for _, name := range args {
				if err := compare(book, &r, name, host, cmd.InOrStdin()); err != nil {
					return err
				}
			}
			return a.printReconciled(&r)
		},
	})
	c.Flags().StringVar(&db, "ledger", "", "a copy of ca.db instead of the CA's own")
	c.Flags().StringVar(&host, "host", "", "the logs are of this host of the policy, whatever they call it")
	return c
}

func readBook(path string) (*reconcile.Book, error) {
	db, err := state.OpenStored(path)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return reconcile.Read(db.Entries(db.Size))
}

func compare(book *reconcile.Book, r *reconcile.Report, name, host string, stdin io.Reader) error {
	log := reconcile.Log{Name: name, Host: host, Text: stdin, Now: time.Now()}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		log.Text = f
	}
	return book.Compare(r, log)
}

func (a *app) printReconciled(r *reconcile.Report) error {
	verdict := "RECONCILED"
	if len(r.Findings) > 0 {
		verdict = "FAILED"
	}
	if a.json {
		if err := a.printJSON(struct {
			Verdict string `json:"verdict"`
			*reconcile.Report
		}{verdict, r}); err != nil {
			return err
		}
	} else {
		w := a.stdout
		fmt.Fprintf(w, "%s\n  read      %s\n  recorded  %s, as the ledger says\n", verdict, count(r.Lines, "line"), count(r.Matched, "login"))
		if r.Timeless > 0 {
			fmt.Fprintf(w, "            %d of them without a time: whether they were valid then is not judged\n", r.Timeless)
		}
		fmt.Fprintf(w, "  refused   %s\n  others    %d by other CAs\n", count(r.Refused, "certificate"), r.Others)
		for _, f := range r.Findings {
			fmt.Fprintf(w, "  fault     %s:%d: %s: serial %d: %s\n", oneLine(f.File), f.Line, f.Code, f.Serial, oneLine(f.Detail))
		}
		if r.More > 0 {
			fmt.Fprintf(w, "  fault     %d more\n", r.More)
		}
	}
	if len(r.Findings) == 0 {
		return nil
	}
	for _, f := range r.Findings {
		if f.Code == reconcile.Unrecorded {
			return withHint(fmt.Errorf("%w: a certificate that the CA did not record opened a host", errVerify),
				"the CA's key may be somebody else's: breakglass-ca rotate session_ca --standby FILE, then --retire the old one",
				"keep the host's logs and its disk as they are")
		}
	}
	return fmt.Errorf("%w: %s", errVerify, count(len(r.Findings)+r.More, "login")+" not as recorded")
}

// oneLine shows what a stranger may have written into a log: nothing of it moves the cursor or begins a line of its own.
func oneLine(s string) string {
	q := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
