package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"

	"github.com/spf13/cobra"

	"breakglass/transcript"
	"breakglass/transcript/derive"
	"breakglass/transcript/replay"
)

// export's forms.
const (
	formCast   = "asciicast"
	formText   = "text"
	formRaw    = "raw"
	formHashes = "hashes"
)

func newExportCmd(a *app) *cobra.Command {
	var r reading
	var out string
	var text, raw, input, hashes bool
	var channel uint32
	c := &cobra.Command{
		Use:   "export ID | export FILE --trust PINS",
		Short: "Write a recording as asciicast v2 (for asciinema), text, raw bytes or hashes",
		Long: `Export verifies a recording, opens it with your reviewer's identity (that it was read is an entry), and writes it:

  (default)       asciicast v2 of one channel
  --text          everything as text to read and search: all channels, both directions, requests
  --raw           the bytes that the host sent, as they are; with --input those that the person sent. Not for a terminal
  --hashes        SHA-256 of every channel's streams and of every file that sftp or scp carried; with --json all that was read out of them`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			form := formCast
			for f, on := range map[string]bool{formText: text, formRaw: raw, formHashes: hashes} {
				if on && form != formCast {
					return usagef("--text, --raw and --hashes exclude each other")
				}
				if on {
					form = f
				}
			}
			if input && form != formRaw {
				return usagef("--input goes with --raw")
			}
			return a.read(cmd.Context(), args[0], r, func(rd *transcript.Reader) error {
				return a.writeTo(out, func(w io.Writer) error { return a.export(w, rd, form, input, channel) })
			})
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write; stdout if not given")
	c.Flags().BoolVar(&text, "text", false, "as text")
	c.Flags().BoolVar(&raw, "raw", false, "the bytes themselves")
	c.Flags().BoolVar(&input, "input", false, "with --raw: what the person sent")
	c.Flags().BoolVar(&hashes, "hashes", false, "hashes of streams and transferred files")
	c.Flags().Uint32Var(&channel, "channel", 0, "which channel; 0 is the first on which the host says anything (of --raw: all)")
	r.flags(c, "export")
	return c
}

// writeTo writes to a new file, or to stdout. A file that could not be finished is removed.
func (a *app) writeTo(out string, write func(io.Writer) error) error {
	if out == "" || out == "-" {
		return write(a.stdout)
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // what was typed may be a password
	if err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		os.Remove(out)
		return err
	}
	return nil
}

func (a *app) export(w io.Writer, rd *transcript.Reader, form string, input bool, channel uint32) error {
	switch form {
	case formText:
		return replay.Text(w, rd.Events())
	case formRaw:
		return writeRaw(w, rd.Events(), input, channel)
	case formHashes:
		s := &streams{sums: map[streamID]*stream{}}
		report, err := derive.Derive(s.watch(rd.Events()), derive.Options{})
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(struct {
				Session string       `json:"session"`
				Streams []streamHash `json:"streams"`
				*derive.Report
			}{string(rd.Header().Session), s.list(), report})
		}
		return writeHashes(w, s.list(), report)
	}
	return replay.Asciicast(w, rd.Header(), rd.Events(), channel)
}

// writeRaw writes one direction's bytes in the order in which they were recorded.
func writeRaw(w io.Writer, events replay.Events, input bool, channel uint32) error {
	bw := bufio.NewWriter(w)
	for e, err := range events {
		if err != nil {
			return errors.Join(bw.Flush(), err)
		}
		if channel != 0 && e.Chan != channel {
			continue
		}
		if in := e.Kind == transcript.KindInput; in && input || !input && (e.Kind == transcript.KindOutput || e.Kind == transcript.KindStderr) {
			if _, err := bw.Write(e.Data); err != nil {
				return err
			}
		}
	}
	return bw.Flush()
}

type streamID struct {
	channel uint32
	kind    transcript.Kind
}

type stream struct {
	h hash.Hash
	n int64
}

// streamHash is one direction of one channel.
type streamHash struct {
	Channel uint32 `json:"channel"`
	Stream  string `json:"stream"` // stdin, stdout, stderr
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`
}

// streams hashes every direction of every channel as the events go by.
type streams struct {
	sums  map[streamID]*stream
	order []streamID
}

func (s *streams) watch(events replay.Events) iter.Seq2[transcript.Event, error] {
	return func(yield func(transcript.Event, error) bool) {
		for e, err := range events {
			switch e.Kind {
			case transcript.KindInput, transcript.KindOutput, transcript.KindStderr:
				id := streamID{e.Chan, e.Kind}
				if s.sums[id] == nil {
					s.sums[id] = &stream{h: sha256.New()}
					s.order = append(s.order, id)
				}
				s.sums[id].h.Write(e.Data)
				s.sums[id].n += int64(len(e.Data))
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (s *streams) list() []streamHash {
	names := map[transcript.Kind]string{transcript.KindInput: "stdin", transcript.KindOutput: "stdout", transcript.KindStderr: "stderr"}
	out := []streamHash{}
	for _, id := range s.order {
		out = append(out, streamHash{id.channel, names[id.kind], s.sums[id].n, hex.EncodeToString(s.sums[id].h.Sum(nil))})
	}
	return out
}

func writeHashes(w io.Writer, list []streamHash, r *derive.Report) error {
	bw := bufio.NewWriter(w)
	for _, s := range list {
		fmt.Fprintf(bw, "%s  channel %d %s, %d bytes\n", s.SHA256, s.Channel, s.Stream, s.Bytes)
	}
	for _, t := range r.Transfers {
		sum := "(not known whole)"
		if t.Whole {
			sum = t.SHA256.String()
		}
		fmt.Fprintf(bw, "%s  %s %s %q, %d bytes\n", sum, t.By, t.Way, t.Path, t.Bytes)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(bw, "note: channel %d: %s\n", n.Channel, clean(n.Text))
	}
	return bw.Flush()
}
