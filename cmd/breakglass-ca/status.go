package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/policy/geo"
)

func newStatusCmd(a *app) *cobra.Command {
	return a.withDir(&cobra.Command{
		Use: "status", Short: "Show what the CA holds", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd.Context(), func(ad *admin) error {
				var s ca.Status
				if err := ad.call(cmd.Context(), http.MethodGet, "/admin/status", nil, &s); err != nil {
					return err
				}
				if a.json {
					return a.printJSON(statusOfCA(&s))
				}
				a.printStatus(&s)
				return nil
			})
		},
	})
}

// statusJSON is what programs read: it changes by addition only.
type statusJSON struct {
	Site       string       `json:"site"`
	Profile    string       `json:"profile"`
	Origin     string       `json:"origin"`
	Founded    bool         `json:"founded"`
	Policy     string       `json:"policy"`
	Addresses  []string     `json:"addresses"`
	Entries    int64        `json:"entries"`
	Checkpoint string       `json:"checkpoint"`
	Keys       int          `json:"keys"`
	Recipients int          `json:"recipients"`
	Sessions   int          `json:"open_sessions"`
	Geo        time.Time    `json:"geo_built,omitzero"`
	Jumps      []jumpStatus `json:"jumps"`
	Missing    []string     `json:"missing,omitempty"` // until it is founded
	Rootless   []string     `json:"models_without_root,omitempty"`
	OnCall     []onCall     `json:"oncall,omitempty"`
	Databases  []geoJSON    `json:"geo,omitempty"`
	// Unread is what would keep recordings from being read, as recipients check says it.
	Unread  []ca.RecipientFault `json:"recipient_findings,omitempty"`
	Frozen  *frozenJSON         `json:"frozen,omitempty"` // nothing is issued
	Witness witnessJSON         `json:"witnesses"`
}

// witnessJSON is how the witnesses stand.
type witnessJSON struct {
	Quorum   int       `json:"quorum"`
	Cosigned int64     `json:"cosigned"` // entries of the newest head with a quorum
	Ahead    time.Time `json:"ahead_since,omitzero"`
	List     []struct {
		Name string    `json:"name"`
		Size int64     `json:"size"`
		Time time.Time `json:"time,omitzero"`
	} `json:"list"`
}

func witnessesOf(w ca.Witnessing) witnessJSON {
	out := witnessJSON{Quorum: w.Quorum, Cosigned: w.Size, Ahead: w.Ahead}
	for _, o := range w.Witnesses {
		out.List = append(out.List, struct {
			Name string    `json:"name"`
			Size int64     `json:"size"`
			Time time.Time `json:"time,omitzero"`
		}(o))
	}
	return out
}

// onCall is one on-call list; its fault says why nobody is on call by it.
type onCall struct {
	Name    string    `json:"name"`
	File    string    `json:"file"`
	Written time.Time `json:"written,omitzero"`
	People  int       `json:"people"`
	Fault   string    `json:"fault,omitempty"`
}

type jumpStatus struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Facts     int64    `json:"facts"`
	// Heard is its last call; absent: none since the CA's start.
	Heard    time.Time `json:"heard,omitzero"`
	Sessions int       `json:"sessions"`
	Behind   int       `json:"not_stored"` // recordings of sessions that are over
}

func statusOfCA(s *ca.Status) statusJSON {
	out := statusJSON{s.Name, s.Profile, s.Origin, s.Founded, s.Policy, s.Addresses, s.Entries, s.Checkpoint, s.Keys, s.Recipients, s.OpenSessions,
		time.Time{}, []jumpStatus{}, nil, s.Rootless, nil, geoOf(s), s.Unread, frozenOf(s.Frozen), witnessesOf(s.Witness)}
	if s.Founding != nil {
		out.Missing = s.Founding.Missing
	}
	for _, g := range s.Geo {
		if g.Kind == geo.Country && !g.Built.IsZero() {
			out.Geo = g.Built.UTC()
		}
	}
	for _, l := range s.OnCall {
		out.OnCall = append(out.OnCall, onCall{string(l.Name), l.File, l.Written, l.People, l.Fault})
	}
	for _, j := range s.Jumps {
		out.Jumps = append(out.Jumps, jumpStatus{string(j.Name), j.Addresses, j.Facts, j.Heard, j.Sessions, j.Behind})
	}
	return out
}

func (a *app) printStatus(s *ca.Status) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(a.stdout, "%-11s %s\n", what, clean(fmt.Sprintf(format, args...)))
	}
	if s.Frozen != nil {
		a.printFrozen(line, s.Frozen)
	}
	line("site", "%s, profile %s", s.Name, s.Profile)
	line("origin", "%s", s.Origin)
	line("addresses", "%s", strings.Join(s.Addresses, ", "))
	if s.Founded {
		line("founded", "yes")
	} else {
		line("founded", "not yet: the owners have to adopt keys and policy")
		if s.Founding != nil {
			for _, m := range s.Founding.Missing {
				line("", "%s", m)
			}
		}
	}
	line("policy", "%s", s.Policy)
	line("ledger", "%s", entries(s.Entries))
	switch w := s.Witness; {
	case w.Quorum == 0:
		line("witnesses", "none asked for: whoever has the ledger's key can rewrite it unseen")
	case !w.Ahead.IsZero():
		line("witnesses", "UNWITNESSED since %s: %s cosigned by %d, as many as are wanted", w.Ahead.Local().Format("15:04:05"), entries(w.Size), w.Quorum)
	default:
		line("witnesses", "%s cosigned by %d, as many as are wanted", entries(w.Size), w.Quorum)
	}
	for _, w := range s.Witness.Witnesses {
		if w.Time.IsZero() {
			line("", "%s: NEVER", w.Name)
			continue
		}
		line("", "%s: %s, %s", w.Name, entries(w.Size), w.Time.Local().Format("2006-01-02 15:04:05"))
	}
	line("keys", "%d enrolled", s.Keys)
	for _, m := range s.Rootless {
		line("models", "%s can't be enrolled: none of its roots is in a file of [attestation] roots", m)
	}
	if s.Recipients == 0 {
		line("recipients", "none: no session can be opened until a reader runs `breakglass reviewer init`")
	} else {
		line("recipients", "%d", s.Recipients)
	}
	for _, f := range s.Unread {
		line("", "%s (%s)", f.Text, f.Hint)
	}
	for i, s := range geoLines(s.Geo) {
		line([]string{"geo", ""}[min(i, 1)], "%s", s)
	}
	for _, l := range s.OnCall {
		if l.Fault != "" {
			line("on call", "%s: nobody counts as on call: %s: %s", l.Name, l.File, l.Fault)
			continue
		}
		line("on call", "%s: %s, %s of %s", l.Name, count(l.People, "person"), l.File, l.Written.Local().Format("2006-01-02 15:04"))
	}
	line("sessions", "%d open", s.OpenSessions)
	if len(s.Jumps) == 0 {
		line("jumps", "none: breakglass-ca invite --jump NAME")
	}
	for _, j := range s.Jumps {
		line("jump", "%s at %s, %s, %s, %s not stored yet, %s reported", j.Name, strings.Join(j.Addresses, ", "), heardOf(j.Heard, time.Now()),
			count(j.Sessions, "session"), count(j.Behind, "recording"), count(int(j.Facts), "fact"))
	}
}

// heardLately is how long a jump that serves may be silent: it calls every three seconds.
const heardLately = 10 * time.Second

func heardOf(at, now time.Time) string {
	switch silent := now.Sub(at); {
	case at.IsZero():
		return "NOT HEARD since the CA's start"
	case silent > heardLately:
		return fmt.Sprintf("NOT HEARD for %v", silent.Round(time.Second))
	default:
		return fmt.Sprintf("heard %v ago", silent.Round(100*time.Millisecond))
	}
}

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
