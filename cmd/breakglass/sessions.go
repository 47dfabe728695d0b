package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
)

func newSessionsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "sessions [ID]",
		Short: "List what runs and what was recorded on all jumps, what runs first, then the newest (needs a pass: one touch in 15 minutes)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.pass(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Sessions(cmd.Context(), "")
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if list = matching(list, args[0]); len(list) == 0 {
					return noSession(args[0])
				}
			}
			return a.printSessions(list)
		},
	}
}

func (a *app) printSessions(list []api.SessionState) error {
	slices.SortStableFunc(list, func(x, y api.SessionState) int {
		if open := x.State == "open"; open != (y.State == "open") {
			if open {
				return -1
			}
			return 1
		}
		return y.Opened.Compare(x.Opened)
	})
	if a.json {
		if list == nil {
			list = []api.SessionState{}
		}
		return a.printJSON(struct {
			Sessions []api.SessionState `json:"sessions"`
		}{list})
	}
	if len(list) == 0 {
		a.term.Say("Nothing was recorded yet.")
		return nil
	}
	return writeSessions(a.stdout, list)
}

func writeSessions(out io.Writer, list []api.SessionState) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\topened\tperson\twhat\tstate\tlength\tjump\tfrom\twhy")
	for _, s := range list {
		state := s.State
		if !s.Stored && state != "open" {
			state += ", not stored yet"
		}
		if s.Overridden {
			state += ", OVERRIDDEN"
		}
		length := (time.Duration(s.Seconds) * time.Second).String()
		if s.State == "open" {
			length = "until " + s.Until.Local().Format("15:04")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s@%s\t%s\t%s\t%s\t%s\t%s\n", clean(string(s.ID)), s.Opened.Local().Format("02 Jan 15:04"), clean(string(s.Person)),
			clean(string(s.Login)), clean(string(s.Host)), clean(state), length, clean(string(s.Jump)), clean(s.Peer), clean(short(s.Reason, 50)))
	}
	return w.Flush()
}

func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-2]) + " …"
}

// matching are the sessions that a typed id fits: of a request whose id begins so, with or without the dash; with "/2" its second.
func matching(list []api.SessionState, typed string) []api.SessionState {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "") }
	head, n, numbered := strings.Cut(typed, "/")
	var out []api.SessionState
	for _, s := range list {
		if head != "" && strings.HasPrefix(plain(string(s.ID.Request())), plain(head)) && (!numbered || strconv.Itoa(s.ID.N()) == n) {
			out = append(out, s)
		}
	}
	return out
}

func noSession(typed string) error {
	return withHint(usagef("no session %q is known", typed), "breakglass sessions")
}

// chosen is what an id on the command line means.
type chosen struct {
	request  name.RequestID
	session  name.SessionID // "" if the id was a request's
	sessions []api.SessionState
}

// choose finds what an id means. A whole request id needs no session: a denied request has none.
func choose(ctx context.Context, c *client.Client, typed string) (chosen, error) {
	list, err := c.Sessions(ctx, "")
	if err != nil {
		return chosen{}, err
	}
	fits := matching(list, typed)
	if len(fits) == 0 {
		id, err := name.ParseRequestID(typed)
		if err != nil {
			return chosen{}, noSession(typed)
		}
		return chosen{request: id}, nil
	}
	out := chosen{request: fits[0].ID.Request(), sessions: fits}
	for _, s := range fits {
		if s.ID.Request() != out.request {
			return chosen{}, withHint(usagef("%q fits more than one request", typed), "breakglass sessions "+typed)
		}
	}
	if strings.Contains(typed, "/") {
		out.session = fits[0].ID
	}
	slices.SortFunc(out.sessions, func(x, y api.SessionState) int { return x.ID.N() - y.ID.N() })
	return out, nil
}

// one is the session to play or export: the one named, or the only one, or an error that lists them.
func (c chosen) one() (name.SessionID, error) {
	switch {
	case c.session != "":
		return c.session, nil
	case len(c.sessions) == 1:
		return c.sessions[0].ID, nil
	case len(c.sessions) == 0:
		return "", withHint(fmt.Errorf("%s has no session", c.request), "breakglass verify "+string(c.request))
	}
	ids := make([]string, len(c.sessions))
	for i, s := range c.sessions {
		ids[i] = string(s.ID)
	}
	return "", withStatus(exitUsage, fmt.Errorf("%s has %d sessions: %s", c.request, len(ids), strings.Join(ids, ", ")), "name one of them")
}

// readEnvelopes has the CA record a reading of each stored recording, and hand out its envelope. only narrows to one session.
func readEnvelopes(ctx context.Context, c *client.Client, what chosen, only name.SessionID, why string) (map[name.SessionID][]byte, error) {
	out := map[name.SessionID][]byte{}
	for _, s := range what.sessions {
		if !s.Stored || only != "" && s.ID != only {
			continue
		}
		env, err := c.Envelope(ctx, s.ID, api.ReadAsk{Why: why})
		if err != nil {
			return nil, fmt.Errorf("opening the recording %s: %w", s.ID, err)
		}
		out[s.ID] = env
	}
	return out, nil
}

// errNotOver says that there is nothing to read yet.
var errNotOver = errors.New("the recording is not in the store yet")
