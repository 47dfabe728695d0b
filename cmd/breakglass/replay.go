package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"breakglass/internal/name"
	"breakglass/review/evidence"
	"breakglass/transcript"
	"breakglass/transcript/replay"
)

// reading are the flags of commands that open a recording.
type reading struct {
	pins, why string
	force     bool
	recovery  bool
}

func (r *reading) flags(c *cobra.Command, why string) {
	c.Flags().StringVar(&r.pins, "trust", "", "read out of a bundle's file, checked against this pins file")
	c.Flags().StringVar(&r.why, "why", why, "why it is read (recorded)")
	c.Flags().BoolVar(&r.recovery, "recovery", false, "open a bundle with the recovery sheets, typed in")
	c.Flags().BoolVar(&r.force, "force", false, "go on though it does not verify")
}

func newReplayCmd(a *app) *cobra.Command {
	var o replay.Options
	var r reading
	var plain bool
	c := &cobra.Command{
		Use:   "replay ID | replay FILE --trust PINS",
		Short: "Play a recording on this terminal",
		Long: `Replay verifies a recording, opens it with your reviewer's identity (that it was read is an entry), and plays what the host said. Nothing in it can make your terminal do
more than show text. A recording that does not verify is not played, unless --force.

On a terminal it obeys keys: space pauses, arrows go 5 s back and on, < and > a minute, 0-9 to tenths of it, + and - change the speed, [ and ] go to the command, file or watcher
before and behind, / looks for a text, n and N for the next and the one before, c changes the channel, i cuts pauses, ? shows this, q quits.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Speed <= 0 || o.IdleLimit < 0 || o.From < 0 {
				return usagef("--speed must be above 0; --idle-limit and --from not below")
			}
			return a.readAgain(cmd.Context(), args[0], r, func(open func() (*transcript.Reader, error)) error {
				rd, err := open()
				if err != nil {
					return err
				}
				h := rd.Header()
				title := fmt.Sprintf("%s: %s as %s@%s, %s", h.Session, h.Person, h.Login, h.Host, time.UnixMicro(h.T0).Local().Format(time.DateTime))
				if in, out, ok := a.terminals(); ok && !plain {
					return play(cmd.Context(), in, out, rd, open, title, o)
				}
				a.term.Say("%s", title)
				return replay.Play(cmd.Context(), a.stdout, rd.Events(), o)
			})
		},
	}
	c.Flags().Float64Var(&o.Speed, "speed", 1, "2 is twice as fast")
	c.Flags().DurationVar(&o.IdleLimit, "idle-limit", 0, "cut pauses to this; 0 is not at all")
	c.Flags().DurationVar(&o.From, "from", 0, "begin at this time into the recording")
	c.Flags().Uint32Var(&o.Channel, "channel", 0, "which channel; 0 is the first on which the host says anything")
	c.Flags().BoolVar(&plain, "plain", false, "only play: no keys, no status line")
	r.flags(c, "replay")
	return c
}

// readingIdentities are the reader's own, or the recovery key: that is for bundles alone, for the CA hands envelopes to readers.
func (a *app) readingIdentities(ctx context.Context, arg string, how reading) ([]age.Identity, error) {
	if !how.recovery {
		return a.identities(ctx)
	}
	if !isFile(arg, how.pins) {
		return nil, withStatus(exitUsage, errors.New("--recovery reads a bundle's file"), "breakglass bundle --envelope "+arg+" -o FILE   by a reader; or the second copy, with the envelope in it")
	}
	k, err := a.recoveryKey(ctx, "")
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return []age.Identity{k.Identity()}, nil
}

// read verifies a recording, opens it, and hands it to show. It believes no part of it that is not proven: a stream and an envelope that belong together can be
// made by anybody who knows the readers' public keys.
func (a *app) read(ctx context.Context, arg string, how reading, show func(*transcript.Reader) error) error {
	return a.readAgain(ctx, arg, how, func(open func() (*transcript.Reader, error)) error {
		rd, err := open()
		if err != nil {
			return err
		}
		return show(rd)
	})
}

// readAgain is read for who begins more than once: open gives the recording from its beginning.
func (a *app) readAgain(ctx context.Context, arg string, how reading, show func(open func() (*transcript.Reader, error)) error) error {
	ids, err := a.readingIdentities(ctx, arg, how)
	if err != nil {
		return err
	}
	var f *os.File
	var v *evidence.Verdict
	var session name.SessionID
	if isFile(arg, how.pins) {
		trust, err := a.trustFrom(how.pins)
		if err != nil {
			return err
		}
		if f, err = os.Open(arg); err != nil {
			return fmt.Errorf("opening bundle: %w", err)
		}
		defer f.Close()
		v = evidence.Verify(f, trust, evidence.Options{Identities: ids})
	} else {
		c, err := a.pass(ctx)
		if err != nil {
			return err
		}
		what, err := choose(ctx, c, arg)
		if err != nil {
			return err
		}
		if session, err = what.one(); err != nil {
			return err
		}
		for _, s := range what.sessions {
			if s.ID == session && !s.Stored {
				return withHint(fmt.Errorf("%s: %w", session, errNotOver), "breakglass sessions "+string(session))
			}
		}
		if f, err = os.CreateTemp("", "breakglass-*.bundle"); err != nil { // sealed: what lies there opens to readers alone
			return fmt.Errorf("fetching the recording: %w", err)
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if v, err = a.fill(ctx, f, c, what, session, true, how.why, ids); err != nil {
			return err
		}
	}
	switch {
	case v.Result == evidence.Failed && !how.force:
		return withStatus(exitVerify, errors.New(v.Line()), "breakglass verify "+arg+"   says all that is wrong", "--force shows it all the same")
	case v.Result == evidence.Failed, v.Result == evidence.VerifiedUntil:
		a.term.Say("breakglass: warning: %s", clean(v.Line()))
	}
	return show(func() (*transcript.Reader, error) {
		// Each reads for itself: who looks for a place reads beside who plays.
		rd, err := evidence.Open(io.NewSectionReader(f, 0, math.MaxInt64), session, ids...)
		switch {
		case errors.Is(err, evidence.ErrNoEnvelope):
			err = withHint(err, "breakglass bundle --envelope "+string(v.Request)+" -o FILE   makes one that does")
		case errors.Is(err, transcript.ErrNotRecipient):
			err = withHint(fmt.Errorf("this recording is not sealed to your identity: %w", err), "those who were the policy's readers when it was opened can read it")
		}
		return rd, err
	})
}
