package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/agent"
	"breakglass/agent/background"
	"breakglass/agent/connect"
	"breakglass/agent/fido2/wire"
	"breakglass/agent/home"
	"breakglass/agent/keys"
	"breakglass/agent/terminal"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/policy"
)

// Exit statuses; `breakglass help exit` lists them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitDenied      = 10
	exitApproval    = 11
	exitKey         = 12
	exitUnreachable = 13
	exitRecorder    = 14
	exitVerify      = 20
	exitUntil       = 21
	exitInterrupted = 130
	exitSSH         = 255
)

const exitHelp = `Exit status

  0    done
  1    failed otherwise
  2    wrong command line
  10   denied by the policy, or refused
  11   waiting for approval
  12   key or touch failed
  13   the CA can't be reached
  14   the jump can't be reached, or nothing could record
  20   verification failed
  21   verified only until the recorder died
  130  interrupted

breakglass ssh ends as ssh does: with the remote command's status, or 255 for all that came before the shell;
then the line "breakglass: error: CODE: …" on stderr says which of the above it was.
`

var errInterrupted = errors.New("interrupted")

// exitError gives an error a status of its own, and hints.
type exitError struct {
	status int
	err    error
	hints  []string
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withStatus has a command end with a status (20 and 21 are verify's).
func withStatus(status int, err error, hints ...string) error { return &exitError{status, err, hints} }

// withHint adds something to type.
func withHint(err error, hints ...string) error {
	return &exitError{status: statusOf(err), err: err, hints: append(hints, hintsOf(err)...)}
}

// statusOf is the one switch from error to exit status.
func statusOf(err error) int {
	var e *exitError
	var u *usageError
	var p *api.Problem
	var w *wire.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.status
	case errors.As(err, &u):
		return exitUsage
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case isWaiting(err):
		return exitApproval
	case errors.As(err, &p):
		return statusOfProblem(p)
	case errors.As(err, &w), errors.Is(err, keys.ErrNotHere), errors.Is(err, keys.ErrRefused), errors.Is(err, keys.ErrNoPIN), errors.Is(err, agent.ErrTooSlow),
		errors.Is(err, agent.ErrStatement), errors.Is(err, agent.ErrEvidence), errors.Is(err, agent.ErrEnrolment), errors.Is(err, agent.ErrKeyNotOffered):
		return exitKey
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, connect.ErrNoJump):
		return exitRecorder
	}
	return exitFailed
}

func statusOfProblem(p *api.Problem) int {
	if s, ok := codeStatus(p.Code); ok {
		return s
	}
	switch p.Code {
	case api.CodeDenied, api.CodeRefused, api.CodePlace, api.CodeSession, api.CodeGrantEnded, api.CodeInvite, api.CodeNotFounded, api.CodeAttestation,
		api.CodeOwnRequest, api.CodeNotApprover, api.CodeApproved, api.CodeDecided, api.CodeRequestExpired, api.CodeOtherRequest, api.CodeNotLonger, api.CodeManyWaiting,
		api.CodeOtherEnrolment, api.CodeVouched, api.CodeFounded, api.CodeNotOwner, api.CodeOtherFounding, api.CodeFounding:
		return exitDenied
	case api.CodeApproval:
		return exitApproval
	case api.CodeOtherKey, string(policy.KeyIsPending), string(policy.KeyIsLapsed), string(policy.KeyIsRevoked):
		return exitKey
	case api.CodeNoTouch, api.CodeNoPIN, api.CodeLate, api.CodeSuspended, api.CodeExpired, api.CodePass:
		return exitKey
	case api.CodeNoRecipient:
		return exitRecorder
	}
	return exitFailed
}

func isWaiting(err error) bool {
	_, ok := client.NotGranted(err)
	return ok
}

// codeOf is the stable word for an error, for scripts and for a telephone.
func codeOf(err error) string {
	var p *api.Problem
	var w *wire.Error
	switch {
	case isWaiting(err):
		return api.CodeApproval
	case errors.As(err, &p):
		return p.Code
	case errors.As(err, &w):
		return string(w.Code)
	case errors.Is(err, client.ErrUnreachable):
		return "ca_unreachable"
	case errors.Is(err, connect.ErrNoJump):
		return "jump_unreachable"
	case errors.Is(err, client.ErrRollback):
		return "ledger_rolled_back"
	case errors.Is(err, client.ErrSuccession):
		return "succession_refused"
	case errors.Is(err, agent.ErrStatement):
		return "statement_refused"
	case errors.Is(err, agent.ErrAnswer):
		return "answer_refused"
	case errors.Is(err, agent.ErrEvidence):
		return "evidence_refused"
	case errors.Is(err, agent.ErrNotWaiting):
		return "not_waiting"
	case errors.Is(err, agent.ErrTooSlow):
		return "no_touch"
	case errors.Is(err, keys.ErrNotHere):
		return "no_key"
	case errors.Is(err, keys.ErrRefused):
		return "key_refused"
	case errors.Is(err, keys.ErrNoPIN):
		return "no_pin"
	case errors.Is(err, home.ErrNotEnrolled):
		return "not_enrolled"
	case errors.Is(err, terminal.ErrNobody):
		return "no_terminal"
	case errors.Is(err, background.ErrNoKey):
		return "grant_ended"
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return "interrupted"
	}
	return ""
}

// hintsOf is what to type next.
func hintsOf(err error) []string {
	var e *exitError
	if errors.As(err, &e) && len(e.hints) > 0 {
		return e.hints
	}
	var p *api.Problem
	if errors.As(err, &p) && len(p.Next) > 0 {
		return p.Next
	}
	var w *wire.Error
	switch {
	case errors.Is(err, home.ErrNotEnrolled):
		return []string{"ask an operator for a token (breakglass-ca invite PERSON), then: breakglass enroll TOKEN"}
	case errors.Is(err, wire.NoBackend.Err()):
		return []string{"install breakglass-fido2 beside breakglass, or load the key into an ssh-agent"}
	case errors.Is(err, wire.NoDevice.Err()), errors.Is(err, wire.NoCredential.Err()):
		return []string{"plug in an enrolled key; `breakglass keys` lists yours"}
	case errors.Is(err, wire.ManyDevices.Err()):
		return []string{"leave only the key to enrol plugged in"}
	case errors.Is(err, wire.PINAuthBlocked.Err()):
		return []string{"unplug the key, plug it in again, and mind the tries that are left"}
	case errors.Is(err, wire.PINBlocked.Err()), errors.Is(err, wire.PINNotSet.Err()):
		return []string{"use your other key; `breakglass keys` lists yours"}
	case errors.Is(err, keys.ErrNotHere):
		return []string{"plug in an enrolled key; `breakglass keys` lists yours"}
	case errors.As(err, &w), errors.Is(err, keys.ErrRefused), errors.Is(err, agent.ErrTooSlow):
		return []string{"try again, and touch the key when it blinks"}
	case errors.Is(err, keys.ErrNoPIN):
		return []string{"run it on a terminal, or name a program that asks in SSH_ASKPASS with SSH_ASKPASS_REQUIRE=force"}
	case errors.Is(err, agent.ErrStatement), errors.Is(err, agent.ErrAnswer), errors.Is(err, agent.ErrEvidence):
		return []string{"do not go on: show this to whoever runs the CA, with `breakglass pins`"}
	case errors.Is(err, client.ErrOlder):
		return []string{"bring the CA up to date (its database comes along), or do it with the breakglass of its version"}
	case errors.Is(err, client.ErrRollback):
		return []string{"call an operator on another line: the CA shows a history that is not the one seen here. It was told",
			"breakglass-ca status     on the CA's machine says whether it was restored, and what to do"}
	case errors.Is(err, client.ErrUnreachable):
		return []string{"breakglass status"}
	case errors.Is(err, connect.ErrNoJump):
		return []string{"breakglass status"}
	case statusOf(err) == exitUsage:
		return []string{"breakglass help"}
	}
	return nil
}

// fail prints an error as a person reads it and gives its status.
func (a *app) fail(err error) int {
	printError(a.stderr, err)
	return statusOf(err)
}

func printError(w *os.File, err error) {
	text := strings.TrimSpace(err.Error())
	if code := codeOf(err); code != "" && !strings.HasPrefix(text, code+":") && text != code {
		text = code + ": " + text
	}
	fmt.Fprintf(w, "breakglass: error: %s\n", clean(text))
	var p *api.Problem
	if errors.As(err, &p) {
		for _, r := range p.Reasons {
			if len(p.Reasons) == 1 && r.Code == p.Code && r.Detail == p.Detail { // said already
				continue
			}
			fmt.Fprintf(w, "breakglass: reason: %s: %s\n", clean(r.Code), clean(r.Detail))
		}
	}
	for _, h := range hintsOf(err) {
		fmt.Fprintf(w, "breakglass: hint: %s\n", clean(h))
	}
}

// clean keeps what came from elsewhere from driving the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && !(r >= 0x80 && r < 0xa0) {
			return r
		}
		return '?'
	}, s)
}

// newExitHelpCmd is a topic of the help.
func newExitHelpCmd() *cobra.Command {
	c := &cobra.Command{Use: "exit", Short: "Exit statuses"}
	c.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), exitHelp) })
	return c
}
