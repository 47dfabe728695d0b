package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/review/evidence"
	"breakglass/transcript"
	"breakglass/transcript/replay"
)

const (
	// maxMatches ends a search that finds nearly everything.
	maxMatches = 10_000
	// matchWidth is what of a long line is shown around a match, in bytes.
	matchWidth = 160
)

// searching are the flags of search.
type searching struct {
	person, host, login string
	since, until        string
	regexp, fold        bool
	input, output       bool
	why                 string
	force               bool
}

// match is one line found.
type match struct {
	Session string    `json:"session"`
	Person  string    `json:"person"`
	Login   string    `json:"login"`
	Host    string    `json:"host"`
	At      float64   `json:"at"` // seconds into the recording
	Time    time.Time `json:"time"`
	Channel uint32    `json:"channel"`
	Source  string    `json:"source"` // in, out, err; -- for requests and the jump's own acts
	Text    string    `json:"text"`
}

func newSearchCmd(a *app) *cobra.Command {
	var q searching
	c := &cobra.Command{
		Use:   "search TEXT",
		Short: "Find a text in all recordings that you may read",
		Long: `Search asks the ledger which recordings there are, fetches them sealed, and looks through them on this machine: each is verified and opened with your reviewer's
identity, and that it was read is an entry, as for replay. What you look for leaves this machine only if you say it in --why.

Found are lines of what the host said and of what the person typed, without colours and cursor movements, and requests such as commands. A password that was typed is
found, too.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.search(cmd.Context(), args[0], q) },
	}
	f := c.Flags()
	f.StringVar(&q.person, "person", "", "only of this person")
	f.StringVar(&q.host, "host", "", "only on this host")
	f.StringVar(&q.login, "login", "", "only as this login")
	f.StringVar(&q.since, "since", "", "only sessions opened since then: 24h, 7d or 2006-01-02")
	f.StringVar(&q.until, "until", "", "only sessions opened before")
	f.BoolVar(&q.regexp, "regexp", false, "TEXT is a regular expression (RE2)")
	f.BoolVarP(&q.fold, "ignore-case", "i", false, "capitals and small letters are the same")
	f.BoolVar(&q.input, "input", false, "only what persons typed or sent")
	f.BoolVar(&q.output, "output", false, "only what hosts said")
	f.StringVar(&q.why, "why", "search", "why they are read (recorded)")
	f.BoolVar(&q.force, "force", false, "also look into recordings that do not verify")
	return c
}

// ago reads a flag that is a duration before now (days too) or a date in the person's zone.
func ago(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(d, "%d", &n); err == nil && n > 0 && fmt.Sprint(n) == d {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{"2006-01-02 15:04", time.DateOnly, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--%s %q: want something like 24h, 7d or 2006-01-02", flag, s)
}

// matcher says where in a line the text is.
func (q searching) matcher(text string) (func(string) []int, error) {
	if text == "" {
		return nil, usagef("there is nothing to look for")
	}
	if !q.regexp && !q.fold {
		return func(s string) []int {
			if i := strings.Index(s, text); i >= 0 {
				return []int{i, i + len(text)}
			}
			return nil
		}, nil
	}
	if !q.regexp {
		text = regexp.QuoteMeta(text)
	}
	if q.fold {
		text = "(?i)" + text
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return re.FindStringIndex, nil
}

// wants narrows by what the ledger says.
func (q searching) wants(s api.SessionState, since, until time.Time) bool {
	return s.Stored && (q.person == "" || string(s.Person) == q.person) && (q.host == "" || string(s.Host) == q.host) && (q.login == "" || string(s.Login) == q.login) &&
		!s.Opened.Before(since) && (until.IsZero() || s.Opened.Before(until))
}

func (a *app) search(ctx context.Context, text string, q searching) error {
	find, err := q.matcher(text)
	if err != nil {
		return err
	}
	since, err := ago("since", q.since, time.Now())
	if err != nil {
		return err
	}
	until, err := ago("until", q.until, time.Now())
	if err != nil {
		return err
	}
	ids, err := a.identities(ctx)
	if err != nil {
		return err
	}
	c, err := a.pass(ctx)
	if err != nil {
		return err
	}
	all, err := c.Sessions(ctx, "")
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(slices.Clone(all), func(s api.SessionState) bool { return !q.wants(s, since, until) })
	slices.SortFunc(list, func(x, y api.SessionState) int { return y.Opened.Compare(x.Opened) })

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make([]searched, len(list))
	line := a.term.Line()
	var wg sync.WaitGroup
	var mu sync.Mutex
	next, done, found := 0, 0, 0
	for range min(len(list), runtime.NumCPU()) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(list) || ctx.Err() != nil {
					return
				}
				r := a.searchOne(ctx, c, list[i], q, find, ids)
				mu.Lock()
				results[i] = r
				done++
				if found += len(r.matches); found > maxMatches {
					cancel()
				}
				progress := fmt.Sprintf(": %d done, %d lines found", done, found)
				line.Set("looking through "+countOf(len(list), "recording"), func() string { return progress })
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	line.Done()
	if err := context.Cause(ctx); err != nil && found <= maxMatches {
		return err
	}
	return a.printFound(list, results, found)
}

// searched is what became of one recording.
type searched struct {
	matches []match
	err     error
	looked  bool
}

func (a *app) searchOne(ctx context.Context, c *client.Client, s api.SessionState, q searching, find func(string) []int, ids []age.Identity) (out searched) {
	f, err := os.CreateTemp("", "breakglass-*.bundle") // sealed: what lies there opens to readers alone
	if err != nil {
		return searched{err: fmt.Errorf("fetching the recording: %w", err)}
	}
	defer os.Remove(f.Name())
	defer f.Close()
	v, err := a.fill(ctx, f, c, chosen{request: s.ID.Request(), session: s.ID, sessions: []api.SessionState{s}}, s.ID, true, q.why, nil)
	if err != nil {
		return searched{err: err}
	}
	if v.Result == evidence.Failed && !q.force {
		return searched{err: errors.New(v.Line())}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return searched{err: err}
	}
	rd, err := evidence.Open(f, s.ID, ids...)
	if err != nil {
		return searched{err: err}
	}
	out.looked = true
	t0 := time.UnixMicro(rd.Header().T0).UTC()
	for l, err := range replay.Lines(rd.Events()) {
		if err != nil {
			out.err = err
			return out
		}
		in := l.Kind == transcript.KindInput
		said := l.Kind == transcript.KindOutput || l.Kind == transcript.KindStderr
		if q.input && !in || q.output && !said {
			continue
		}
		at := find(l.Text)
		if at == nil {
			continue
		}
		out.matches = append(out.matches, match{string(s.ID), string(s.Person), string(s.Login), string(s.Host), l.T.Seconds(), t0.Add(l.T), l.Channel, l.Source(), around(l.Text, at)})
		if len(out.matches) > maxMatches {
			break
		}
	}
	return out
}

// around cuts a long line down to what stands around a match.
func around(s string, at []int) string {
	if len(s) <= matchWidth {
		return s
	}
	from := max(0, min(at[0]-matchWidth/3, len(s)-matchWidth))
	to := min(len(s), max(from+matchWidth, min(at[1], at[0]+matchWidth)))
	for from > 0 && !utf8.RuneStart(s[from]) {
		from--
	}
	for to < len(s) && !utf8.RuneStart(s[to]) {
		to++
	}
	cut := s[from:to]
	if from > 0 {
		cut = "…" + cut
	}
	if to < len(s) {
		cut += "…"
	}
	return cut
}

func (a *app) printFound(list []api.SessionState, results []searched, found int) error {
	matches := []match{}
	looked := 0
	var first error
	for i, r := range results {
		matches = append(matches, r.matches...)
		if r.looked {
			looked++
		}
		if r.err != nil {
			if first == nil {
				first = fmt.Errorf("%s: %w", list[i].ID, r.err)
			}
			if errors.Is(r.err, transcript.ErrNotRecipient) {
				a.term.Say("breakglass: warning: %s is not sealed to your identity", list[i].ID)
			} else {
				a.term.Say("breakglass: warning: %s was not searched: %s", list[i].ID, clean(r.err.Error()))
			}
		}
	}
	if a.json {
		if err := a.printJSON(struct {
			Matches    []match `json:"matches"`
			Recordings int     `json:"recordings"`
			Searched   int     `json:"searched"`
		}{matches, len(list), looked}); err != nil {
			return err
		}
	} else {
		last := ""
		for _, m := range matches {
			if m.Session != last {
				fmt.Fprintf(a.stdout, "%s  %s as %s@%s, %s\n", clean(m.Session), clean(m.Person), clean(m.Login), clean(m.Host), m.Time.Local().Format("02 Jan 15:04"))
				last = m.Session
			}
			fmt.Fprintf(a.stdout, "  %-9s %d %-3s %s\n", time.Duration(m.At*float64(time.Second)).Round(time.Second), m.Channel, m.Source, clean(m.Text))
		}
		switch {
		case found > maxMatches:
			a.term.Say("breakglass: warning: stopped after %d lines: say more, or narrow it by --person, --host, --since", maxMatches)
		case len(matches) == 0:
			a.term.Say("Not found in %d recordings.", looked)
		default:
			a.term.Say("Next: breakglass replay %s --from %s", matches[0].Session, time.Duration(max(0, matches[0].At-5)*float64(time.Second)).Round(time.Second))
		}
	}
	if looked < len(list) && found <= maxMatches && first != nil {
		return withStatus(exitVerify, fmt.Errorf("%d of %d recordings were not searched: %w", len(list)-looked, len(list), first), "breakglass verify ID   says what is wrong with one")
	}
	return nil
}

// countOf is n of something, in English.
func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
