package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/term"

	"breakglass/transcript"
	"breakglass/transcript/replay"
)

// terminals says whether somebody sits there: who types keys and sees what is played.
func (a *app) terminals() (in, out *os.File, ok bool) {
	return a.stdin, a.stdout, term.IsTerminal(int(a.stdin.Fd())) && term.IsTerminal(int(a.stdout.Fd()))
}

// play plays a recording to somebody with keys. first is open's, not read yet.
func play(ctx context.Context, in, out *os.File, first *transcript.Reader, open func() (*transcript.Reader, error), title string, o replay.Options) (err error) {
	index, err := replay.NewIndex(first.Events())
	if err != nil {
		return err
	}
	was, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	defer term.Restore(int(in.Fd()), was)
	p := &replay.Player{Index: index, Out: out, Title: title, Channel: o.Channel, Speed: o.Speed, IdleLimit: o.IdleLimit, From: o.From,
		Open: func() (replay.Events, error) {
			rd, err := open()
			if err != nil {
				return nil, err
			}
			return rd.Events(), nil
		},
		Size: func() (int, int) {
			cols, rows, err := term.GetSize(int(out.Fd()))
			if err != nil || cols < 10 || rows < 2 {
				return 80, 24
			}
			return cols, rows
		}}
	return p.Run(ctx, replay.Keys(in))
}
