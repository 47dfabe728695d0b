package main

import (
	"context"
	"errors"
	"strings"

	"github.com/boombuler/barcode/qr"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"breakglass/agent"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/policy"
)

func newTOTPCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "totp", Short: "The code of your other channel, where a rule asks for one", Args: unknownCommand,
		Long: `A rule may ask for a six-digit code beside the touch, and so does a new key when all of yours are lost. The device that makes it is your
other channel: a phone, or a second machine, never the laptop that you break the glass from. Whoever takes that laptop would have both.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(
		&cobra.Command{
			Use: "enroll [DEVICE]", Short: "Have a phone make codes (the seed is shown once; a code and a touch confirm it)", Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				device := "phone"
				if len(args) > 0 {
					device = args[0]
				}
				return a.totp(cmd.Context(), device, true)
			},
		},
		&cobra.Command{
			Use: "remove DEVICE", Short: "Take the device away (takes a code of it, and a touch)", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.totp(cmd.Context(), args[0], false) },
		},
	)
	return c
}

func (a *app) totp(ctx context.Context, deviceName string, enrol bool) error {
	device, err := name.ParseKey(deviceName)
	if err != nil {
		return usage(err)
	}
	who, err := a.home.LoadPerson()
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	ag, fido, err := a.agent(c)
	if err != nil {
		return err
	}
	defer fido.Forget()
	st, err := a.runTOTP(ctx, ag, c, who.Person, device, enrol)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(st)
	}
	if enrol {
		a.term.Say("%s makes your codes from now on. A rule that asks for one: breakglass ssh --totp CODE LOGIN@HOST", st.Device)
	} else {
		a.term.Say("%s makes no codes any more.", st.Device)
	}
	return nil
}

func (a *app) runTOTP(ctx context.Context, ag *agent.Agent, c *client.Client, person name.Person, device name.Key, enrol bool) (*api.TOTPState, error) {
	codes := func(ctx context.Context, current bool) (string, error) {
		if current {
			return a.code(ctx, "Code of the device that makes them until now: ")
		}
		return a.code(ctx, "Code that "+string(device)+" shows: ")
	}
	if enrol {
		return ag.EnrolTOTP(ctx, c, person, device, a.showSeed, codes)
	}
	return ag.RemoveTOTP(ctx, c, person, device, codes)
}

// showSeed shows it on the terminal alone, once: nothing writes it down.
func (a *app) showSeed(s *api.TOTPSeed) error {
	if !a.term.Interactive() {
		return withStatus(exitUsage, errors.New("the seed is shown on a terminal only, and there is none"), "run it on a terminal: breakglass totp enroll")
	}
	if picture, err := qrText(s.URI); err == nil && a.term.Live() && wide(a) {
		a.term.Say("%s", picture)
	}
	a.term.Say("Scan it with the authenticator of another device than this one, or type it there:")
	a.term.Say("  %s", clean(s.URI))
	a.term.Say("  key: %s (time based, SHA-1, 6 digits, 30 s)", grouped(s.Secret))
	a.term.Say("It is shown this once.")
	return nil
}

// wide says whether the picture fits: one that is wrapped can't be scanned.
func wide(a *app) bool {
	w, h, err := term.GetSize(int(a.stderr.Fd()))
	return err == nil && w >= 70 && h >= 36
}

func grouped(s string) string {
	var b strings.Builder
	for i, r := range clean(s) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// qrText draws a QR code in half blocks, two modules a character, dark on light whatever the terminal's colours are (ISO/IEC 18004 wants four
// light modules around; scanners take two).
func qrText(text string) (string, error) {
	code, err := qr.Encode(text, qr.L, qr.Auto)
	if err != nil {
		return "", err
	}
	const quiet = 2
	n := code.Bounds().Dx()
	dark := func(x, y int) bool {
		if x < 0 || y < 0 || x >= n || y >= n {
			return false
		}
		r, _, _, _ := code.At(x, y).RGBA()
		return r == 0
	}
	var b strings.Builder
	for y := -quiet; y < n+quiet; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quiet; x < n+quiet; x++ {
			switch {
			case dark(x, y) && dark(x, y+1):
				b.WriteString("█")
			case dark(x, y):
				b.WriteString("▀")
			case dark(x, y+1):
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// code asks the person for a code. It is worth nothing once used, so it may be seen while it is typed.
func (a *app) code(ctx context.Context, prompt string) (string, error) {
	s, err := a.term.Ask(ctx, prompt)
	if errors.Is(err, terminal.ErrNobody) {
		return "", withStatus(exitUsage, errors.New("a code is wanted, and there is no terminal to ask for one on"), "give it: --totp CODE")
	}
	return s, err
}

// wantsCode says that a request was refused for nothing but the missing code.
func wantsCode(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && len(p.Reasons) == 1 && p.Reasons[0].Code == string(policy.TOTPMissing)
}

// codeStatus: a code that did not count is the person's factor, as a key is.
func codeStatus(code string) (int, bool) {
	switch code {
	case ledger.TOTPCodeWrong, ledger.TOTPCodeReplay, ledger.TOTPCodeLocked, ledger.TOTPCodeNone, ledger.TOTPCodeCurrent, ledger.TOTPCodeUnsound:
		return exitKey, true
	}
	return 0, false
}
