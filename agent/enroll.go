package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/wire"
	"breakglass/agent/keys"
	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// Credential is a new credential, before the CA counts it.
type Credential = api.EnrolKey

// Enroller makes a credential on a hardware key.
type Enroller interface {
	Enrol(ctx context.Context, person name.Person, challenge []byte) (Credential, error)
}

// Enrolment is a key that counts, as this machine remembers it.
type Enrolment struct {
	api.Enrolled
	PublicKey    string
	CredentialID []byte
}

// ErrOtherPerson says that the invite's person is not the token's.
var ErrOtherPerson = errors.New("the CA names another person than the token")

// Enrol spends an invite: the key makes a credential (one touch) and signs the enrolment with it (another).
func (a *Agent) Enrol(ctx context.Context, person name.Person, key name.Key, secret string, e Enroller) (*Enrolment, error) {
	ch, err := a.BeginEnrolment(ctx, person, key, secret)
	if err != nil {
		return nil, err
	}
	cred, err := e.Enrol(ctx, person, ch.Challenge)
	if err != nil {
		return nil, err
	}
	return a.FinishEnrolment(ctx, ch, key, secret, cred)
}

// BeginEnrolment gets the client data that the key has to attest. It is good for some minutes and for one credential.
func (a *Agent) BeginEnrolment(ctx context.Context, person name.Person, key name.Key, secret string) (*api.EnrolChallenge, error) {
	ch, err := a.cfg.CA.Enrol(ctx, api.EnrolAsk{Invite: secret, Key: string(key)})
	if err != nil {
		return nil, err
	}
	if ch.Person != person {
		return nil, fmt.Errorf("%w: %s, not %s", ErrOtherPerson, ch.Person, person)
	}
	return ch, nil
}

// FinishEnrolment shows the credential that was made for ch, and has it sign its enrolment.
func (a *Agent) FinishEnrolment(ctx context.Context, ch *api.EnrolChallenge, key name.Key, secret string, cred Credential) (*Enrolment, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		return a.cfg.CA.EnrolKey(ctx, ch.ID, cred)
	}, func(c *api.Challenge) (statement.Statement, error) {
		return CheckEnrolment(c, ch.Person, key, cred, secret, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	done, err := a.cfg.CA.SignEnrolment(ctx, s.id, api.Signed{SSHSIG: s.armor, TOTP: a.code})
	if err != nil {
		return nil, err
	}
	return &Enrolment{*done, cred.PublicKey, cred.CredentialID}, nil
}

// WithCode gives the code of the person's other channel that goes with the next enrolment: a recovery takes one.
func (a *Agent) WithCode(code string) { a.code = code }

// HardwareEnroller makes credentials through the helper.
type HardwareEnroller struct {
	FIDO2 *keys.FIDO2
	Key   name.Key
	// Exclude are the person's credentials so far: one key enrolled twice is no second key.
	Exclude [][]byte
}

// Enrol is Enroller's.
func (h *HardwareEnroller) Enrol(ctx context.Context, person name.Person, challenge []byte) (Credential, error) {
	var ex []wire.Key
	for _, id := range h.Exclude {
		ex = append(ex, wire.Key{CredentialID: id})
	}
	c, err := h.FIDO2.Enrol(ctx, h.Key, person, challenge, ex)
	if err != nil {
		return Credential{}, err
	}
	pub, err := ssh.ParsePublicKey(c.PublicKey)
	if err != nil {
		return Credential{}, fmt.Errorf("reading the new key: %w", err)
	}
	return Credential{
		PublicKey: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(pub))), CredentialID: c.CredentialID,
		Format: c.Format, AuthData: c.AuthData, Cert: c.Certificate, Signature: c.Signature, Challenge: challenge,
	}, nil
}
