package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"breakglass/agent/background"
	"breakglass/agent/connect"
	"breakglass/agent/sshconfig"
	"breakglass/internal/name"
	"breakglass/ledger"
)

const (
	// sshFlagsWithValue and sshFlags are ssh's getopt string (OpenSSH 9.2, ssh.c main), so that we find the host as ssh would.
	sshFlagsWithValue = "BbcDEeFIiJLlmOopQRSWw"
	sshFlags          = "1246AaCfGgKkMNnqsTtVvXxYy"
	// epilogueTime bounds the question how the recording ended: the person waits for their prompt.
	epilogueTime = 2 * time.Second
)

// sshArgs is a command line taken apart.
type sshArgs struct {
	own     []string // flags of ours, for pflag
	options []string // ssh's, in order, without -l
	login   string   // of -l
	target  string
	rest    []string // command, with all that stood after the host
}

// splitSSH finds the host as ssh would: ours are long, ssh's are short, `--` before the host ends both.
func splitSSH(args []string) (sshArgs, error) {
	var s sshArgs
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			args = args[1:]
			if len(args) == 0 {
				return s, usagef("which host?")
			}
			s.target, s.rest = args[0], args[1:]
			return s, nil
		case strings.HasPrefix(arg, "--"):
			s.own = append(s.own, arg)
			args = args[1:]
			if takesValue(arg) {
				if len(args) == 0 {
					return s, usagef("%s needs a value", arg)
				}
				s.own = append(s.own, args[0])
				args = args[1:]
			}
		case strings.HasPrefix(arg, "-") && arg != "-":
			n, err := s.short(args)
			if err != nil {
				return s, err
			}
			args = args[n:]
		default:
			s.target, s.rest = arg, args[1:]
			return s, nil
		}
	}
	return s, nil
}

// takesValue says whether one of our long flags is followed by its value.
func takesValue(arg string) bool {
	return !strings.Contains(arg, "=") && !slices.Contains([]string{"--json", "--show", "--help", "--no-wait", "--override"}, arg)
}

// short takes one argument of ssh's short options, perhaps several in one, and its value.
func (s *sshArgs) short(args []string) (int, error) {
	arg := args[0]
	for i := 1; i < len(arg); i++ {
		c := arg[i]
		switch {
		case strings.IndexByte(sshFlags, c) >= 0:
			if i == len(arg)-1 {
				s.options = append(s.options, arg)
				return 1, nil
			}
		case strings.IndexByte(sshFlagsWithValue, c) >= 0:
			value, n := arg[i+1:], 1
			if value == "" {
				if len(args) < 2 {
					return 0, usagef("-%c needs a value", c)
				}
				value, n = args[1], 2
			}
			if i > 1 {
				s.options = append(s.options, arg[:i])
			}
			switch c {
			case 'l':
				s.login = value
			case 'J', 'O', 'S':
				return 0, usagef("-%c can't be used: the session goes through a recording jump (--jump NAME chooses which)", c)
			default:
				s.options = append(s.options, "-"+string(c), value)
			}
			return n, nil
		default:
			return 0, usagef("unknown option -%c", c)
		}
	}
	return 1, nil
}

func newSSHCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh [--reason TEXT] [ssh's options] [LOGIN@]HOST [COMMAND]",
		Short: "Break the glass: a recorded shell or command on one host",
		Long: `Ssh asks at most for a reason, a PIN and a touch, and then runs the stock ssh in one hop through the jump that records.
A grant that is still alive is used without asking. ssh's own short options work, and what -L, -R and -W name is asked for;
ours are long:

  --reason TEXT --minutes N --ticket T --forward "local HOST:PORT" --drill NAME
  --failure F    what is down, and --severity S how bad it is, by the policy's names: a denial lists them
  --totp CODE    the code of your other device, where the rule wants one
  --jump NAME    go through this jump, or whichever answers of those named
                 NAME-… and NAME.…
  --no-wait      do not wait for approvals (exit 11): asking again goes on with the request
  --override     go on without missing approvals, where the rule allows it: a second touch
  --show         print the statement before it is signed

It ends with the remote command's status, and with 255 for all that came before (see ` + "`breakglass help exit`" + `).`,
		DisableFlagParsing: true, // ssh's flags are not ours to parse
		RunE:               func(cmd *cobra.Command, args []string) error { return a.ssh(cmd, args) },
	}
}

func (a *app) ssh(cmd *cobra.Command, args []string) error {
	s, err := splitSSH(args)
	if err != nil {
		return err
	}
	var q asked
	var jump string
	f := pflag.NewFlagSet("ssh", pflag.ContinueOnError)
	q.flags(f)
	f.StringVar(&jump, "jump", "", "")
	f.BoolVar(&a.show, "show", false, "")
	f.BoolVar(&a.json, "json", false, "")
	f.Usage = func() {}
	if err := f.Parse(s.own); errors.Is(err, pflag.ErrHelp) {
		return cmd.Help()
	} else if err != nil {
		return usage(err)
	}
	if s.target == "" {
		return usagef("which host? breakglass ssh [LOGIN@]HOST")
	}
	login, host, err := a.sshTarget(s)
	if err != nil {
		return err
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return withStatus(exitSSH, fmt.Errorf("stock ssh is needed: %w", err), "install openssh-client")
	}
	for _, w := range forwardsOf(s.options) {
		if !slices.Contains(q.forwards, w) {
			q.forwards = append(q.forwards, w)
		}
	}
	g, err := a.grant(cmd.Context(), login, host, q)
	if err != nil {
		return err
	}
	line, err := a.sshLine(g, jump, s)
	if err != nil {
		return err
	}
	if err := a.runSSH(cmd.Context(), program, line, g); err != nil || a.status != exitSSH {
		return err
	}
	if a.replaced(cmd.Context()) { // a grant that was alive was used, and nobody asked the CA
		if err := a.takeOver(cmd.Context()); err != nil {
			return err
		}
		return withStatus(exitSSH, errors.New("the grant was the lost CA's"), "breakglass ssh "+string(login)+"@"+string(host)+"     asks the one that follows it")
	}
	a.explainHost(context.WithoutCancel(cmd.Context()), g, jump)
	return nil
}

// explainTime bounds the look at the jump after ssh has failed.
const explainTime = 3 * time.Second

// explainHost says what is wrong with the host certificate that the jump shows, if that is what ssh stopped at: ssh's own words name another cause.
func (a *app) explainHost(ctx context.Context, g *background.Grant, jump string) {
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	p, err := a.home.Pins()
	if err != nil {
		return
	}
	addrs, err := a.jumpAddresses(g.Jumps, jump)
	if err != nil {
		return
	}
	var wrong *connect.HostError
	if err := connect.CheckHost(ctx, addrs, g.Host, p.Site.HostCA, time.Now()); !errors.As(err, &wrong) {
		return // ssh ended for another reason, and said it
	}
	fmt.Fprintf(a.stderr, "breakglass: error: %s\n", wrong.What)
	for _, h := range wrong.Next {
		fmt.Fprintf(a.stderr, "breakglass: hint: %s\n", h)
	}
}

func (a *app) sshTarget(s sshArgs) (name.Login, name.Host, error) {
	if s.login == "" {
		return a.target(s.target)
	}
	login, err := name.ParseLogin(s.login)
	if err != nil {
		return "", "", usage(err)
	}
	// As ssh: -l wins over the name before the @.
	_, host, err := name.SplitTarget(s.target)
	if err != nil {
		return "", "", usage(err)
	}
	return login, host, nil
}

// sshLine writes the command line of the stock ssh: ours first, since ssh takes the first value of each option.
func (a *app) sshLine(g *background.Grant, jump string, s sshArgs) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addrs, err := a.jumpAddresses(g.Jumps, jump)
	if err != nil {
		return nil, err
	}
	known, err := a.knownHosts()
	if err != nil {
		return nil, err
	}
	opts, err := sshconfig.Session{Program: self, Host: g.Host, Login: g.Login, Socket: g.Socket, KnownHosts: known, Jumps: addrs}.Options()
	if err != nil {
		return nil, err
	}
	line := append(sshconfig.Args(opts), s.options...)
	line = append(line, string(g.Host))
	return append(line, s.rest...), nil
}

// jumpAddresses are those of the jumps that were asked for, or of all, in the order to try.
func (a *app) jumpAddresses(jumps []ledger.SiteJump, asked string) ([]string, error) {
	if len(jumps) == 0 {
		return nil, withHint(errors.New("this site has no jump"), "an operator makes one: breakglass-ca invite --jump NAME")
	}
	chosen := jumpsNamed(jumps, asked)
	if len(chosen) == 0 {
		var names []string
		for _, j := range jumps {
			names = append(names, string(j.Name))
		}
		slices.Sort(names)
		return nil, withHint(usagef("no jump is named %q: there is %s", clean(asked), strings.Join(names, ", ")), "breakglass status says which can be reached")
	}
	me, err := a.home.LoadPerson()
	if err != nil {
		return nil, err
	}
	addrs := connect.Order(me.Person, chosen)
	if len(addrs) == 1 && len(jumps) > 1 {
		// Tried twice, so that its answer is waited for: one of several tells there why it lets nobody in.
		addrs = append(addrs, addrs...)
	}
	return addrs, nil
}

// jumpsNamed are the jump of that name, or those whose names begin with it and go on with - or . (all of a place: fra for fra-1 and fra-2); all without a name.
func jumpsNamed(jumps []ledger.SiteJump, asked string) []ledger.SiteJump {
	var one, several []ledger.SiteJump
	for _, j := range jumps {
		n := string(j.Name)
		switch {
		case n == asked:
			one = append(one, j)
		case asked == "" || strings.HasPrefix(n, asked+"-") || strings.HasPrefix(n, asked+"."):
			several = append(several, j)
		}
	}
	if one != nil {
		return one
	}
	return several
}

// sshUser is the login that stock ssh would take for the name.
func (a *app) sshUser(host string) (name.Login, error) {
	cmd := exec.Command("ssh", "-G", "--", host)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking ssh: %w", err)
	}
	for line := range bytes.Lines(out) {
		if u, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "user "); ok {
			return name.ParseLogin(u)
		}
	}
	return "", errors.New("ssh doesn't say")
}

// epilogue says how the recording stands, on a terminal only: a script isn't kept waiting.
func (a *app) epilogue(ctx context.Context, g *background.Grant) {
	if !a.term.Live() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, epilogueTime)
	defer cancel()
	c, err := a.client()
	if err != nil {
		return
	}
	live, err := a.keysClient().Live(ctx, g.Login, g.Host, 0)
	if err != nil || live == nil || live.ID != g.ID {
		return
	}
	key, err := grantKey(live)
	if err != nil {
		return
	}
	st, err := c.WithSigner(a.keysClient().Signer(key)).Request(ctx, g.ID)
	if err != nil || len(st.Sessions) == 0 {
		return
	}
	last := st.Sessions[len(st.Sessions)-1]
	state := "still being stored"
	if last.Stored {
		state = "stored"
	}
	a.term.Say("breakglass: recorded as %s: %s, %s, %s. breakglass replay %s", last.ID, duration(last.Seconds), size(last.Bytes), state, last.ID)
}

func duration(seconds int) string {
	if seconds < 120 {
		return fmt.Sprintf("%d s", seconds)
	}
	return fmt.Sprintf("%d min", seconds/60)
}

func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
