package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/agent/recovery"
	"breakglass/agent/terminal"
	"breakglass/internal/durable"
	"breakglass/internal/statement"
	"breakglass/transcript"
)

// maxTyped bounds a typed line: a grid line has 25 letters and a few spaces.
const maxTyped = 256

func newRecoveryCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "recovery", Short: "The recovery key: on paper, for the day when no reader is left", Args: cobra.NoArgs,
		Long: `Every recording is sealed to the readers and, once an operator has set it, to a recovery key that exists on paper alone. These commands need neither the CA nor a
security key: run them on a machine that has no network, and carry only the public half away.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var q recoveryMake
	init := &cobra.Command{
		Use:   "init",
		Short: "Make a recovery key and print it for paper",
		Long: `Init makes a key, writes its public half to a file, and prints the secret half: five numbered lines with a check in each, and age's own spelling, which stock age
reads. With --shares 2-of-N it is N sheets of which any two open it, and one alone says nothing; each is shown alone.

It is post-quantum hybrid, as readers' identities are; --classical where theirs are classical, for the two don't mix.

Carry the public half to an operator: breakglass-ca recipients recovery FILE`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.recoveryInit(cmd.Context(), q) },
	}
	f := init.Flags()
	f.StringVar(&q.shares, "shares", "", "2-of-N: N sheets, any two open it")
	f.BoolVar(&q.classical, "classical", false, "X25519, not post-quantum")
	f.StringVarP(&q.out, "output", "o", "recovery.pub", "file for the public half")
	f.StringVar(&q.print, "print", "", "write each sheet to a file of its own in this directory, to be printed, instead of showing it")
	var challenge string
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Prove that the paper still opens what is sealed to the public half in FILE",
		Long: `Check seals something fresh to the public half, asks for the sheets as they stand on the paper, and opens it with them. With --challenge FILE it opens what
somebody else made (breakglass recovery challenge) and prints the answer, which proves it to them: for drills.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.recoveryCheck(cmd.Context(), args[0], challenge)
		},
	}
	check.Flags().StringVar(&challenge, "challenge", "", "open this challenge and print its answer")
	var sealed string
	pose := &cobra.Command{
		Use: "challenge FILE -o CHALLENGE", Short: "Make a challenge that only the paper can answer, and print the answer", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.recoveryChallenge(args[0], sealed) },
	}
	pose.Flags().StringVarP(&sealed, "output", "o", "", "file for the challenge")
	var identity string
	combine := &cobra.Command{
		Use:   "combine -o FILE",
		Short: "Type the sheets in, and write the key for stock age: age -d -i FILE ENVELOPE",
		Long: `Combine asks for one whole sheet or two shares and writes the key as age keeps one. It opens every envelope that was sealed to it: "age -d -i FILE ENVELOPE" gives a
recording's key. To read a bundle, breakglass itself asks for the sheets: breakglass replay BUNDLE --trust PINS --recovery (and export, verify).

Whoever has the written file reads everything: destroy it after use (shred -u FILE).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.recoveryCombine(cmd.Context(), identity) },
	}
	combine.Flags().StringVarP(&identity, "output", "o", "", "file to write; it must not be there")
	c.AddCommand(init, check, pose, combine)
	return c
}

// recoveryMake is what is asked of init.
type recoveryMake struct {
	shares, out, print string
	classical          bool
}

// parseShares reads "2-of-N".
func parseShares(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	var n int
	if _, err := fmt.Sscanf(s, "2-of-%d", &n); err != nil || fmt.Sprintf("2-of-%d", n) != s || n < 2 || n > recovery.MaxShares {
		return 0, usagef("--shares %s: want 2-of-2 to 2-of-%d", s, recovery.MaxShares)
	}
	return n, nil
}

func (a *app) recoveryInit(ctx context.Context, m recoveryMake) error {
	n, err := parseShares(m.shares)
	if err != nil {
		return err
	}
	if n > 0 && m.print == "" && !a.term.Interactive() {
		return withStatus(exitUsage, errors.New("shares are shown one at a time, and there is no terminal to show them on"), "--print DIR   writes each to a file of its own")
	}
	k, err := recovery.New(m.classical)
	if err != nil {
		return err
	}
	defer k.Wipe()
	sheets := []*recovery.Sheet{k.Sheet()}
	if n > 0 {
		if sheets, err = k.Shares(n); err != nil {
			return err
		}
	}
	now := time.Now()
	fp := statement.RecipientFingerprint(k.Public())
	public := fmt.Appendf(nil, "# breakglass recovery key %s, made %s\n%s\n", fp, now.UTC().Format(time.DateOnly), k.Public())
	if err := durable.WriteNew(m.out, public, 0o644); err != nil {
		return fmt.Errorf("writing the public half: %w", err)
	}
	for i, s := range sheets {
		text := sheetText(k, s, fp, now)
		if m.print != "" {
			path := filepath.Join(m.print, fmt.Sprintf("recovery-sheet-%d.txt", i+1))
			if err := durable.WriteNew(path, []byte(text), 0o600); err != nil {
				return fmt.Errorf("writing a sheet: %w", err)
			}
			a.term.Say("%s: print it, then destroy the file (shred -u)", path)
			continue
		}
		if err := a.showSheet(ctx, text); err != nil {
			return err
		}
	}
	for _, s := range sheets {
		s.Wipe()
	}
	a.term.Say("The public half is in %s. Next: breakglass recovery check %s, with the paper", m.out, m.out)
	a.term.Say("then, where an operator's key is: breakglass-ca recipients recovery %s --reason WHY", m.out)
	return nil
}

// showSheet shows one sheet alone: on a terminal it waits, and wipes the screen and what can be scrolled back to.
func (a *app) showSheet(ctx context.Context, text string) error {
	if _, err := io.WriteString(a.stdout, text); err != nil {
		return err
	}
	if !a.term.Interactive() {
		return nil
	}
	if _, err := a.term.Ask(ctx, "Copy it by hand, letter by letter. Enter, once it is on paper: "); err != nil {
		return err
	}
	_, err := io.WriteString(a.stdout, "\x1b[H\x1b[2J\x1b[3J") // ECMA-48 CUP and ED; 3 is xterm's scroll-back
	return err
}

// sheetText is a paper.
func sheetText(k *recovery.Key, s *recovery.Sheet, fingerprint string, now time.Time) string {
	var b strings.Builder
	what, how := "whole: this paper alone opens every recording", "this paper"
	if !s.Whole() {
		what, how = fmt.Sprintf("share %d of %d: any two open every recording, one alone says nothing", s.Number, s.Made), "two of these papers"
	}
	fmt.Fprintf(&b, "breakglass recovery key\n\n  made   %s\n  key    %s\n  sheet  %s\n\n", now.UTC().Format(time.DateOnly), fingerprint, what)
	for _, line := range s.Grid() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if s.Whole() {
		fmt.Fprintf(&b, "\n  for stock age:\n  %s\n", k.Text())
	}
	fmt.Fprintf(&b, "\n  letters 0-9 A-Z without I, L, O, U; 0 is zero, 1 is one\n  to read with %s:\n  breakglass replay BUNDLE --trust PINS --recovery\n\n", how)
	return b.String()
}

// readPublic reads the file of a public half.
func readPublic(path string) (string, error) {
	b, err := readBounded(path, maxIdentity)
	if err != nil {
		return "", fmt.Errorf("reading the recovery key's public half: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		return "", withHint(fmt.Errorf("reading %s: it names %d recipients, want one", path, len(found)), "breakglass recovery init   writes such a file")
	}
	if _, err := transcript.ParseRecipients(found); err != nil {
		return "", withHint(fmt.Errorf("reading %s: %w", path, err), "breakglass recovery init   writes such a file")
	}
	return found[0], nil
}

// typist asks for sheets, on the terminal or from stdin.
type typist struct {
	a  *app
	in *bufio.Scanner // nil on a terminal
}

func (a *app) typist() *typist {
	t := &typist{a: a}
	if !a.term.Interactive() {
		t.in = bufio.NewScanner(a.stdin)
		t.in.Buffer(nil, maxTyped)
	}
	return t
}

// line asks for line n until it is one: a wrong letter costs its line, not the sheet.
func (t *typist) line(ctx context.Context, n int) (string, error) {
	for {
		var text string
		if t.in != nil {
			for text == "" {
				if !t.in.Scan() {
					return "", errors.Join(fmt.Errorf("line %d of the sheet is missing", n), t.in.Err())
				}
				text = strings.TrimSpace(t.in.Text())
			}
		} else {
			var err error
			if text, err = t.a.term.Ask(ctx, fmt.Sprintf("Line %d: ", n)); err != nil {
				return "", err
			}
		}
		_, err := recovery.ParseLine(n, text)
		if err == nil {
			return text, nil
		}
		if t.in != nil {
			return "", withStatus(exitFailed, err, "type it as it stands on the paper; 0 is zero, 1 is one")
		}
		t.a.term.Say("%v", err)
	}
}

func (t *typist) sheet(ctx context.Context) (*recovery.Sheet, error) {
	var lines []string
	for n := 1; n <= recovery.Lines; n++ {
		l, err := t.line(ctx, n)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return recovery.ParseSheet(lines)
}

// recoveryKey asks for as many sheets as open it. public, if not "", is the key that is meant.
func (a *app) recoveryKey(ctx context.Context, public string) (*recovery.Key, error) {
	t := a.typist()
	var sheets []*recovery.Sheet
	defer func() {
		for _, s := range sheets {
			s.Wipe()
		}
	}()
	for need := 1; len(sheets) < need; {
		if t.in == nil {
			a.term.Say("Type the sheet's five lines (sheet %d).", len(sheets)+1)
		}
		s, err := t.sheet(ctx)
		if errors.Is(err, terminal.ErrNobody) {
			return nil, withHint(err, "run it on a terminal, or give the lines on stdin")
		}
		if err != nil {
			return nil, err
		}
		sheets = append(sheets, s)
		if public != "" && !s.Of(public) {
			return nil, fmt.Errorf("this sheet is of another key than %s", statement.RecipientFingerprint(public))
		}
		need = s.Needed
	}
	return recovery.Open(sheets...)
}

func (a *app) recoveryCheck(ctx context.Context, file, challenge string) error {
	public, err := readPublic(file)
	if err != nil {
		return err
	}
	sealed, want, err := recovery.NewChallenge(public)
	if err != nil {
		return err
	}
	if challenge != "" {
		if sealed, err = readBounded(challenge, recovery.MaxChallenge); err != nil {
			return fmt.Errorf("reading the challenge: %w", err)
		}
	}
	k, err := a.recoveryKey(ctx, public)
	if err != nil {
		return err
	}
	defer k.Wipe()
	answer, err := k.Answer(sealed)
	if err != nil {
		return err
	}
	out := struct {
		Key    string `json:"key"`
		Opens  bool   `json:"opens"`
		Answer string `json:"answer,omitempty"`
	}{Key: statement.RecipientFingerprint(public), Opens: true}
	if challenge != "" {
		out.Answer = answer
	} else if answer != want {
		return errors.New("the paper opens something, and not what was sealed")
	}
	switch {
	case a.json:
		return a.printJSON(out)
	case challenge != "":
		_, err = fmt.Fprintln(a.stdout, answer)
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "ok: the paper opens what is sealed to %s\n", out.Key)
	return err
}

func (a *app) recoveryChallenge(file, out string) error {
	if out == "" {
		return usagef("say -o CHALLENGE: the file to carry to the paper")
	}
	public, err := readPublic(file)
	if err != nil {
		return err
	}
	sealed, answer, err := recovery.NewChallenge(public)
	if err != nil {
		return err
	}
	if err := durable.WriteNew(out, sealed, 0o644); err != nil {
		return fmt.Errorf("writing the challenge: %w", err)
	}
	if a.json {
		return a.printJSON(struct {
			Key    string `json:"key"`
			Answer string `json:"answer"`
		}{statement.RecipientFingerprint(public), answer})
	}
	if _, err := fmt.Fprintln(a.stdout, answer); err != nil {
		return err
	}
	a.term.Say("Keep that answer here. Where the paper is: breakglass recovery check %s --challenge %s   prints the same", filepath.Base(file), filepath.Base(out))
	return nil
}

func (a *app) recoveryCombine(ctx context.Context, out string) error {
	if out == "" {
		return usagef("say -o FILE: a secret is not printed on a terminal")
	}
	if _, err := os.Lstat(out); err == nil { // before somebody types for minutes
		return usagef("%s is there already", out)
	}
	k, err := a.recoveryKey(ctx, "")
	if err != nil {
		return err
	}
	defer k.Wipe()
	text := fmt.Appendf(nil, "# public key: %s\n%s\n", k.Public(), k.Text())
	defer clear(text)
	if err := durable.WriteNew(out, text, 0o600); err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	a.term.Say("breakglass: warning: %s opens every recording; destroy it after use (shred -u)", out)
	return nil
}
