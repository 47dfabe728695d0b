// Package agent is a person's side of breaking the glass: it asks the CA, checks that the statement to be signed says what the
// person asked for, has a hardware key sign it, and puts what was granted where ssh finds it.
//
// It guarantees to the person that no key blinks for anything but what they asked: every statement is parsed strictly and compared
// field by field before a key is asked (check.go), there is no signing of unknown kinds, and the answer is held against the
// statement and the pinned site afterwards (a certificate for another key, host, login or person, or by another CA, is refused).
//
// What it decides is only what to ask for. That a request was allowed is the CA's word, and the jump's.
package agent

import (
	"context"
	"errors"

	"breakglass/ca/api"
	"breakglass/internal/name"
)

// CA is what this package needs of the CA's client. Errors are *api.Problem where the CA answered.
type CA interface {
	// Seen says from where the CA sees us over each family of addresses; nil where it has one alone.
	Seen(ctx context.Context, clientKey string) []api.Seen
	// Ask opens a request, SignRequest answers its challenge: an *api.Waiting is the error where it needs approvals.
	Ask(ctx context.Context, q api.Ask) (*api.Challenge, error)
	SignRequest(ctx context.Context, id string, s api.Signed) (*api.Granted, error)
	// Enrol shows an invite, EnrolKey the new credential, SignEnrolment the key's first signature.
	Enrol(ctx context.Context, q api.EnrolAsk) (*api.EnrolChallenge, error)
	EnrolKey(ctx context.Context, id string, q api.EnrolKey) (*api.Challenge, error)
	SignEnrolment(ctx context.Context, id string, s api.Signed) (*api.Enrolled, error)
	// Approve opens a verdict on what somebody else signed.
	Approve(ctx context.Context, q api.ApprovalAsk) (*api.Challenge, error)
	SignApproval(ctx context.Context, id string, s api.Signed) (*api.ApprovalState, error)
	// Pass and Recipient likewise.
	Pass(ctx context.Context, q api.PassAsk) (*api.Challenge, error)
	SignPass(ctx context.Context, id string, s api.Signed) (*api.PassState, error)
	Recipient(ctx context.Context, q api.RecipientAsk) (*api.Challenge, error)
	SignRecipient(ctx context.Context, id string, s api.Signed) (*api.RecipientState, error)
	// Found, Renew and Lose are about keys.
	Found(ctx context.Context, q api.FoundingAsk) (*api.Challenge, error)
	SignFounding(ctx context.Context, id string, s api.Signed) (*api.FoundingState, error)
	Renew(ctx context.Context, q api.RenewalAsk) (*api.Challenge, error)
	SignRenewal(ctx context.Context, id string, s api.Signed) (*api.RenewalState, error)
	Lose(ctx context.Context, q api.LossAsk) (*api.Challenge, error)
	SignLoss(ctx context.Context, id string, s api.Signed) (*api.LossState, error)
}

var (
	// ErrStatement says that the CA's statement is not what was asked: nothing was signed.
	ErrStatement = errors.New("the CA's statement is not what was asked for: nothing was signed")
	// ErrAnswer says that what the CA granted is not what the statement says.
	ErrAnswer = errors.New("the CA's answer is not what was signed for")
	// ErrTooSlow says that a statement ended before a signature came, some times over.
	ErrTooSlow = errors.New("no key was touched in time")
)

// Want is what a person asks for.
type Want struct {
	Kind     string         // "" is statement.RequestNew
	Of       name.RequestID // the request that an override or extension acts on
	Person   name.Person
	Login    name.Login
	Host     name.Host
	Minutes  int // 0: what the rule gives
	Reason   string
	Ticket   string
	Failure  string
	Severity string
	Forwards []string
	Drill    string
	Code     string // of the other channel; it travels beside the signature

	seen []api.Seen // what the CA told of this machine's addresses
}
