package replay

import (
	"context"
	"io"
	"iter"
	"time"

	"breakglass/transcript"
)

// Events is a recording as transcript.Reader.Events gives it.
type Events = iter.Seq2[transcript.Event, error]

// Options of a replay. The zero value plays at recorded speed.
type Options struct {
	Speed     float64       // 2 is twice as fast; 0 is 1
	IdleLimit time.Duration // pauses are cut to it; 0 is none
	From      time.Duration // what came before is shown at once
	Channel   uint32        // 0 is the first channel on which the host says anything
}

// Play writes what the host said to a terminal, at the pace at which it came. It leaves the terminal as it found it, also
// after an error or when ctx ends.
func Play(ctx context.Context, w io.Writer, events Events, o Options) (err error) {
	var f Filter
	if o.Speed <= 0 {
		o.Speed = 1
	}
	defer func() {
		if _, werr := w.Write(append(f.Flush(nil), f.Reset()...)); err == nil {
			err = werr
		}
	}()
	var buf []byte
	at := o.From
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for e, err := range events {
		if err != nil {
			return err
		}
		if e.Kind != transcript.KindOutput && e.Kind != transcript.KindStderr {
			continue
		}
		if o.Channel == 0 {
			o.Channel = e.Chan
		}
		if e.Chan != o.Channel {
			continue
		}
		if wait := e.T - at; wait > 0 {
			if o.IdleLimit > 0 {
				wait = min(wait, o.IdleLimit)
			}
			at = e.T
			timer.Reset(time.Duration(float64(wait) / o.Speed))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-timer.C:
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		buf = f.Append(buf[:0], e.Data)
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
