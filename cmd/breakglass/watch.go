package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ledger"
	"breakglass/transcript"
	"breakglass/transcript/replay"
)

type watchOptions struct {
	why       string
	channel   uint32
	fromStart bool
}

func newWatchCmd(a *app) *cobra.Command {
	var o watchOptions
	c := &cobra.Command{
		Use: "watch ID", Short: "Watch a session while it runs", Args: cobra.ExactArgs(1),
		Long: `Watch shows a running session on this terminal as it is recorded: nothing that isn't in the recording. Whoever may read may watch, but nobody their own
session; that you watch, and why, is an entry before anything is shown, and the person is told unless the policy says otherwise. Nothing in the session can make
your terminal do more than show text. What is shown is checked on this machine against what the jump signs in the ledger. Ctrl-C leaves.

With --json, each event is a line. The exit status is 0 when the session ended or you left, 20 if it does not verify, 21 if its recorder died.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.watch(cmd.Context(), args[0], o) },
	}
	c.Flags().StringVar(&o.why, "why", "watch", "why it is watched (recorded)")
	c.Flags().Uint32Var(&o.channel, "channel", 0, "which channel; 0 is all")
	c.Flags().BoolVar(&o.fromStart, "from-start", false, "show all that was recorded so far, not only the last of it")
	return c
}

func (a *app) watch(ctx context.Context, typed string, o watchOptions) error {
	ids, err := a.identities(ctx)
	if err != nil {
		return err
	}
	c, err := a.pass(ctx)
	if err != nil {
		return err
	}
	what, err := choose(ctx, c, typed)
	if err != nil {
		return err
	}
	session, err := sessionOf(what)
	if err != nil {
		return err
	}
	w, opened, err := c.Watch(ctx, session, api.WatchAsk{Why: o.why})
	if err != nil {
		return err
	}
	f := newFeed(ctx, c, w, o.why)
	f.say = a.term.Say
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = f.client.EndWatch(late, f.watch) // else it lapses in some seconds
	}()
	rd, err := transcript.NewReader(f)
	if err != nil {
		return watchFailed(ctx, err)
	}
	h := rd.Header()
	if h.Session != session || ledger.EntryHash([]byte(w.Opened.Entry)) != [32]byte(h.Bind) {
		return withStatus(exitVerify, fmt.Errorf("%w: it is not bound to the entry that opened %s", errNotRecorded, session), "breakglass verify "+string(session.Request()))
	}
	k, err := transcript.OpenEnvelope(h, w.Envelope, ids...)
	if errors.Is(err, transcript.ErrNotRecipient) {
		return withHint(fmt.Errorf("this recording is not sealed to your identity: %w", err), "those who were the policy's readers when it was opened can watch it")
	}
	if err == nil {
		err = rd.Unlock(k)
	}
	if err != nil {
		return withStatus(exitVerify, fmt.Errorf("opening the recording: %w", err))
	}
	f.frames, f.after[1] = 1, ledger.Head{Frames: 1, Chain: [32]byte(rd.Head().Chain), Bytes: int64(len(rd.HeaderFrame()))}
	a.term.Say("%s: %s as %s@%s, since %s. You watch, and that is recorded. Ctrl-C leaves.", session, opened.Subject.Person, h.Login, h.Host, time.UnixMicro(h.T0).Local().Format(time.TimeOnly))
	v := &watchView{out: a.stdout, o: o, say: a.term.Say, live: o.fromStart, filters: map[uint32]*replay.Filter{}, ptys: map[uint32]bool{},
		quiet: opened.Facts.(*ledger.SessionOpened).Quiet}
	if a.json {
		v.json, v.live = json.NewEncoder(a.stdout), true
		v.json.SetEscapeHTML(false)
	}
	f.idle, f.heard = v.idle, func(e *ledger.Entry) { v.entry(e, string(f.watch.ID)) }
	end, err := v.show(f, rd)
	v.close()
	if err != nil {
		return watchFailed(ctx, err)
	}
	return a.watchEnded(ctx, f, rd, end)
}

// watchFailed says what an error of the stream means.
func watchFailed(ctx context.Context, err error) error {
	var fe *transcript.FrameError
	switch {
	case ctx.Err() != nil: // Ctrl-C: that is how one leaves
		return nil
	case errors.Is(err, errNotRecorded), errors.As(err, &fe) && !errors.Is(err, transcript.ErrTruncated):
		return withStatus(exitVerify, err, "what was shown may not be what was recorded: tell the owners")
	}
	return err
}

// watchEnded says how the session ended, and whether what was shown is what was recorded.
func (a *app) watchEnded(ctx context.Context, f *feed, rd *transcript.Reader, end *transcript.End) error {
	if err := f.conclude(); err != nil {
		return watchFailed(ctx, err)
	}
	id := string(f.watch.Session)
	switch {
	case f.final != nil && len(f.signed) > 0:
		return withStatus(exitVerify, fmt.Errorf("%w: it has %d frames, %d were shown", errNotRecorded, f.final.Frames, f.frames), "breakglass verify "+id)
	case f.crashed:
		return withStatus(exitUntil, fmt.Errorf("%s ended because its recorder died; all that it had recorded was shown", id), "breakglass verify "+id)
	case end == nil || f.ended == nil:
		return withHint(fmt.Errorf("%s is over, and its end did not come", id), "breakglass sessions "+id)
	}
	exit := ""
	if f.ended.Exit != "" {
		exit = ", exit " + f.ended.Exit
	}
	a.term.Say("%s ended (%s%s) after %s. What was shown agrees with all %d heads that the jump signed.", id, clean(f.ended.Reason), clean(exit),
		(time.Duration(f.ended.Seconds) * time.Second).String(), f.checked)
	return nil
}

// lastScreen bounds what is shown of what came before the watcher: what a terminal holds, several times over.
const lastScreen = 256 << 10

// watchView shows a stream's events.
type watchView struct {
	out     io.Writer
	o       watchOptions
	say     func(format string, a ...any)
	json    *json.Encoder
	live    bool   // else what was before is being gone through
	before  []byte // the end of what was before, made safe
	filters map[uint32]*replay.Filter
	ptys    map[uint32]bool
	quiet   bool // the person isn't told who watches: else their terminal says it already
	err     error
}

// show goes through the stream to its end.
func (v *watchView) show(f *feed, rd *transcript.Reader) (end *transcript.End, err error) {
	for {
		fr, err := rd.Next()
		if err == io.EOF || errors.Is(err, transcript.ErrTruncated) && f.state == "crashed" {
			return end, nil
		}
		if err != nil {
			return nil, err
		}
		if err := f.read(fr); err != nil {
			return nil, err
		}
		for _, e := range fr.Events {
			v.event(e)
		}
		if v.err != nil {
			return nil, v.err
		}
		if fr.End != nil {
			v.idle()
			return fr.End, nil
		}
	}
}

// idle: all that was there was gone through, and from now on it is live.
func (v *watchView) idle() {
	if v.live {
		return
	}
	v.live = true
	v.write(v.before)
	v.before = nil
}

func (v *watchView) write(b []byte) {
	if v.err == nil && len(b) > 0 {
		_, v.err = v.out.Write(b)
	}
}

// watchEvent is a line of --json.
type watchEvent struct {
	T       float64 `json:"t"` // seconds since the session began
	Kind    string  `json:"kind"`
	Channel uint32  `json:"channel,omitempty"`
	Data    []byte  `json:"data,omitempty"` // base64
	Text    string  `json:"text,omitempty"`
	Entry   string  `json:"entry,omitempty"` // of the ledger
}

var kindNames = map[transcript.Kind]string{transcript.KindInput: "input", transcript.KindOutput: "output", transcript.KindStderr: "stderr", transcript.KindOpen: "open",
	transcript.KindRequest: "request", transcript.KindGlobal: "global", transcript.KindEOF: "eof", transcript.KindClose: "close", transcript.KindWall: "wall", transcript.KindAct: "act",
	transcript.KindWatcher: "watcher", transcript.KindMark: "mark"}

func (v *watchView) event(e transcript.Event) {
	if v.o.channel != 0 && e.Chan != v.o.channel && e.Chan != 0 {
		return
	}
	if v.json != nil {
		if v.err == nil {
			v.err = v.json.Encode(watchEvent{T: e.T.Seconds(), Kind: kindNames[e.Kind], Channel: e.Chan, Data: e.Data, Text: clean(inWords(e))})
		}
		return
	}
	switch e.Kind {
	case transcript.KindOutput, transcript.KindStderr:
		v.screen(e.Chan, e.Data)
	case transcript.KindMark: // the jump's own words, as the person read them
		v.screen(e.Chan, append(append([]byte(nil), e.Data...), "\r\n"...))
	case transcript.KindRequest:
		if r, err := transcript.ParseRequest(e.Data); err == nil && r.Type == "pty-req" && r.Step == transcript.Done {
			v.ptys[e.Chan] = true
		}
		fallthrough
	default:
		if text := inWords(e); text != "" && v.live && !v.ptys[e.Chan] && (v.quiet || e.Kind != transcript.KindWatcher) {
			v.say("breakglass: %s", clean(text))
		}
	}
}

// screen shows what the terminal of a channel was sent.
func (v *watchView) screen(channel uint32, b []byte) {
	f := v.filters[channel]
	if f == nil {
		f = new(replay.Filter)
		v.filters[channel] = f
	}
	if v.live {
		v.write(f.Append(nil, b))
		return
	}
	v.before = f.Append(v.before, b)
	if len(v.before) > 2*lastScreen {
		b := v.before[len(v.before)-lastScreen:]
		b = b[bytes.IndexByte(b, '\n')+1:] // not in the middle of a sequence
		v.before = append(v.before[:0], b...)
	}
}

// inWords says what an event is, where it is more than bytes.
func inWords(e transcript.Event) string {
	switch e.Kind {
	case transcript.KindRequest:
		r, err := transcript.ParseRequest(e.Data)
		if err != nil || r.From != transcript.FromPerson || r.Step != transcript.Asked {
			return ""
		}
		switch r.Type {
		case "exec", "subsystem":
			if len(r.Payload) >= 4 {
				return fmt.Sprintf("channel %d: %s %q", e.Chan, r.Type, r.Payload[4:])
			}
		}
	case transcript.KindOpen:
		o, err := transcript.ParseOpening(e.Data)
		if err == nil && o.Step == transcript.Done && o.Type != "session" {
			return fmt.Sprintf("channel %d: %s", e.Chan, o.Type)
		}
	case transcript.KindAct:
		if a, err := transcript.ParseAction(e.Data); err == nil {
			return strings.TrimPrefix(a.Text, "breakglass: ")
		}
	case transcript.KindWatcher:
		if w, err := transcript.ParseWatching(e.Data); err == nil {
			if w.Joined {
				return w.Person + " watches"
			}
			return w.Person + " has left"
		}
	}
	return ""
}

// entry is what the ledger says of the session meanwhile.
func (v *watchView) entry(e *ledger.Entry, own string) {
	if v.json != nil && v.err == nil {
		b, err := json.Marshal(e.Facts)
		if err == nil {
			err = v.json.Encode(watchEvent{Kind: "entry", Entry: string(e.Type()), Text: string(b)})
		}
		v.err = err
	}
}

// close leaves the terminal as it was found.
func (v *watchView) close() {
	if v.json != nil {
		return
	}
	v.idle()
	for _, f := range v.filters {
		v.write(append(f.Flush(nil), f.Reset()...))
	}
}
