package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
	"breakglass/transcript/s3"
)

func newStoreCmd(a *app) *cobra.Command {
	return group("store", "Check the store of recordings, and keep a second copy", newStoreCheckCmd(a), newStoreVerifyCmd(a), newStoreCopyCmd(a), newStoreSealCmd(a))
}

func newStoreCheckCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "check", Short: "Prove that what is stored can't be deleted or changed, by trying it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := ca.CheckStore(cmd.Context(), a.dir)
			if a.json {
				why := ""
				if err != nil {
					why = err.Error()
				}
				if perr := a.printJSON(map[string]any{"held": append([]string{}, out.Tried...), "not_proved": append([]string{}, out.Left...), "error": why}); perr != nil {
					return perr
				}
			} else {
				for _, l := range out.Tried {
					fmt.Fprintf(a.stdout, "held        %s\n", clean(l))
				}
				for _, l := range out.Left {
					fmt.Fprintf(a.stdout, "not proved  %s\n", clean(l))
				}
			}
			if errors.Is(err, ca.ErrStore) {
				return withHint(err, "make a bucket with Object Lock, and name it in [store.s3] of config.toml")
			}
			return err
		},
	})
}

// recorded are the recordings that the ledger says are stored, in its order.
type recorded struct {
	ids    []name.SessionID
	stored map[name.SessionID]*ledger.TranscriptStored
	opened map[name.SessionID]*opened // of which there was a session at all
}

// opened is what the ledger says of how long a session's recording has to stay.
type opened struct {
	at   time.Time
	keep s3.Keep
}

func (a *app) recorded(c *cobra.Command, db string) (*recorded, error) {
	r := &recorded{stored: map[name.SessionID]*ledger.TranscriptStored{}, opened: map[name.SessionID]*opened{}}
	return r, a.withLedger(c.Context(), db, func(l *ledgerCopy) error {
		for _, e := range l.where(`type IN ('session.opened', 'transcript.stored')`) {
			if e.err != nil {
				return e.err
			}
			s := e.Subject.Session
			switch f := e.Facts.(type) {
			case *ledger.TranscriptStored:
				if r.stored[s] == nil {
					r.ids = append(r.ids, s)
				}
				r.stored[s] = f
			case *ledger.SessionOpened:
				r.opened[s] = &opened{e.Time.Time, s3.Keep{For: time.Duration(f.RetainDays) * 24 * time.Hour, Hold: f.LegalHold}}
			}
		}
		return nil
	})
}

func (r *recorded) of(id name.SessionID) (*ledger.TranscriptStored, error) { return r.stored[id], nil }

// storeFault is what is wrong with one recording.
type storeFault struct {
	Session name.SessionID `json:"session"`
	What    string         `json:"what"`
}

func newStoreVerifyCmd(a *app) *cobra.Command {
	var second string
	c := a.withDir(&cobra.Command{
		Use: "verify", Short: "Hold every recording against the ledger, and the ledger against the store", Args: cobra.NoArgs,
		Long: `Read every recording that the ledger says is stored, hold it and its envelope against the hashes there, and name what the store has that the ledger doesn't know.
In a bucket each object's lock is held against the policy of the day: retained in COMPLIANCE for as long, under legal hold where a rule wants it; a
file of which the policy wants either has to be immutable. --copy does so with a
second copy. The ledger itself is checked by ` + "`breakglass-ca ledger verify`" + `.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.recorded(cmd, "")
			if err != nil {
				return err
			}
			st, err := a.storeToRead(r, second)
			if err != nil {
				return err
			}
			bytes, faults, err := verifyStore(r, st, second == "")
			if err != nil {
				return err
			}
			verdict := "VERIFIED"
			if len(faults) > 0 {
				verdict = "FAILED"
			}
			if a.json {
				err = a.printJSON(map[string]any{"verdict": verdict, "recordings": len(r.ids), "bytes": bytes, "faults": append([]storeFault{}, faults...)})
			} else {
				fmt.Fprintf(a.stdout, "%s\n  store       %s, %d bytes, as the ledger says\n", verdict, count(len(r.ids), "recording"), bytes)
				for _, f := range faults {
					fmt.Fprintf(a.stdout, "  fault       %s: %s\n", clean(string(f.Session)), clean(f.What))
				}
			}
			if err == nil && len(faults) > 0 {
				err = fmt.Errorf("%w: %s: %s", errVerify, faults[0].Session, faults[0].What)
			}
			return err
		},
	})
	c.Flags().StringVar(&second, "copy", "", "verify the second copy in this `DIR` instead")
	return c
}

// storeToRead opens the CA's store, or a second copy.
func (a *app) storeToRead(r *recorded, second string) (ca.Store, error) {
	if second != "" {
		if _, err := os.Stat(second); err != nil { // else it would be made
			return nil, err
		}
		return transcript.NewFileStore(second)
	}
	return ca.OpenStore(a.dir, r.of)
}

// verifyStore looks both ways. bytes are of those that are as they should be; own says that it is the CA's store, which has to protect them as the policy wants.
func verifyStore(r *recorded, st ca.Store, own bool) (bytes int64, faults []storeFault, err error) {
	for _, id := range r.ids {
		n, what := verifyOne(st, id, r.stored[id])
		if what == nil && own {
			what = keptAsWanted(r, st, id)
		}
		if what != nil {
			faults = append(faults, storeFault{id, what.Error()})
			continue
		}
		bytes += n
	}
	have, err := st.List()
	if err != nil {
		return bytes, faults, err
	}
	for _, id := range have {
		s, err := st.Stat(id)
		switch {
		case err != nil:
			faults = append(faults, storeFault{id, err.Error()})
		case r.opened[id] == nil:
			faults = append(faults, storeFault{id, "the ledger knows no such session"})
		case s.Finished && r.stored[id] == nil:
			faults = append(faults, storeFault{id, "it is whole, and the ledger doesn't say so"})
		}
	}
	return bytes, faults, nil
}

// keptAsWanted holds how a recording is protected against what the policy of the day wanted.
func keptAsWanted(r *recorded, st ca.Store, id name.SessionID) error {
	o := r.opened[id]
	if o == nil {
		return errors.New("the ledger knows no such session")
	}
	if bucket, ok := st.(*s3.Store); ok {
		if r.stored[id].Manifest == nil {
			return errors.New("the ledger names no object of the bucket: it was stored elsewhere")
		}
		return bucket.CheckKept(id, o.at, o.keep)
	}
	if o.keep == (s3.Keep{}) {
		return nil
	}
	stored, err := st.Stat(id)
	if err == nil && !stored.Immutable {
		err = errors.New("the policy wants that nobody can delete it, and its file is not immutable: breakglass-ca store seal, as root")
	}
	return err
}

func verifyOne(st ca.Store, id name.SessionID, want *ledger.TranscriptStored) (int64, error) {
	f, err := st.Open(id)
	if errors.Is(err, transcript.ErrNotStored) {
		return 0, errors.New("missing")
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return n, err
	}
	if n != want.Head.Bytes || statement.Hash(h.Sum(nil)) != want.SHA256 {
		return n, fmt.Errorf("%d bytes of another hash; the ledger says %d", n, want.Head.Bytes)
	}
	env, err := st.Envelope(id)
	if errors.Is(err, transcript.ErrNotStored) {
		return n, errors.New("its envelope is missing: nobody can read it")
	}
	if err == nil && ledger.EntryHash(env) != want.Envelope {
		err = errors.New("its envelope is another: nobody can read it")
	}
	return n, err
}

func newStoreCopyCmd(a *app) *cobra.Command {
	var second string
	c := a.withDir(&cobra.Command{
		Use: "copy TO", Short: "Make or continue a second copy of all recordings", Args: cobra.ExactArgs(1),
		Long: `Copy every recording that the ledger says is stored, with its envelope, into the directory TO: on a machine or a disk that whoever owns this one doesn't. What is there
already is held against the ledger, not trusted. Recordings are sealed: the copy opens to readers alone.

With --from DIR it goes the other way: what the CA's store lost comes back from a second copy, with TO the CA's store/ and the service stopped meanwhile.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.recorded(cmd, "")
			if err != nil {
				return err
			}
			from, err := a.storeToRead(r, second)
			if err != nil {
				return err
			}
			to, err := transcript.NewFileStore(args[0])
			if err != nil {
				return err
			}
			copied, there := 0, 0
			var faults []storeFault
			for _, id := range r.ids {
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				if _, err := verifyOne(to, id, r.stored[id]); err == nil {
					there++
					continue
				}
				if err := copyOne(to, from, id, r.stored[id]); err != nil {
					faults = append(faults, storeFault{id, err.Error()})
					continue
				}
				copied++
			}
			if a.json {
				if err := a.printJSON(map[string]any{"copied": copied, "there": there, "faults": append([]storeFault{}, faults...)}); err != nil {
					return err
				}
			} else {
				a.say("%s copied to %s, %d were there", count(copied, "recording"), args[0], there)
				for _, f := range faults {
					a.say("  fault       %s: %s", f.Session, f.What)
				}
			}
			if len(faults) > 0 {
				return fmt.Errorf("%w: %s: %s", errVerify, faults[0].Session, faults[0].What)
			}
			return nil
		},
	})
	c.Flags().StringVar(&second, "from", "", "copy from the second copy in this `DIR` instead of the CA's store")
	return c
}

// copyPiece is what is copied at once.
const copyPiece = 1 << 20

// copyOne copies a recording and reads it back from where it went.
func copyOne(to *transcript.FileStore, from ca.Store, id name.SessionID, want *ledger.TranscriptStored) error {
	f, err := from.Open(id)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, copyPiece)
	for at := int64(0); ; {
		n, err := io.ReadFull(f, b)
		if n > 0 {
			if _, err := to.Put(id, at, b[:n]); err != nil {
				return err
			}
			at += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	env, err := from.Envelope(id)
	if err == nil {
		err = to.PutEnvelope(id, slices.Clone(env))
	}
	if err != nil {
		return err
	}
	if _, err := verifyOne(to, id, want); err != nil { // before it becomes whole, and can't be mended
		return fmt.Errorf("copied to %s: %w", filepath.Base(to.Dir), err)
	}
	_, err = to.Finish(id, want.Head.Bytes)
	return err
}

func newStoreSealCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "seal", Short: "Make finished recordings immutable, for a service that may not", Args: cobra.NoArgs,
		Long: `Set the immutable flag on every finished file of the store (chattr +i). It takes CAP_LINUX_IMMUTABLE, which the service had better not have: what it can't undo, an intruder in it can't.
contrib/systemd has the units that run this by itself whenever a recording is finished.`,
		RunE: func(*cobra.Command, []string) error {
			n, err := transcript.SealFinished(filepath.Join(a.dir, "store"))
			if n > 0 {
				a.say("%s sealed", count(n, "file"))
			}
			return err
		},
	})
}
