package agent

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// ErrKeyNotOffered says that the CA does not ask the key: it is revoked or suspended, or none of the person's.
var ErrKeyNotOffered = errors.New("the CA does not ask that key: it is revoked or suspended, or not yours")

// Renew has one key prove that it is there; no other key is asked.
func (a *Agent) Renew(ctx context.Context, person name.Person, fingerprint string) (*api.RenewalState, error) {
	s, err := a.sign(ctx, func() (*api.Challenge, error) {
		ch, err := a.cfg.CA.Renew(ctx, api.RenewalAsk{Person: string(person), Key: fingerprint})
		return only(ch, err, func(fp string) bool { return fp == fingerprint })
	}, func(ch *api.Challenge) (statement.Statement, error) {
		return CheckRenewal(ch, person, fingerprint, a.cfg.Seen())
	})
	if err != nil {
		return nil, err
	}
	return a.cfg.CA.SignRenewal(ctx, s.id, api.Signed{SSHSIG: s.armor})
}

// only keeps those keys of a challenge that may be asked.
func only(ch *api.Challenge, err error, keep func(fingerprint string) bool) (*api.Challenge, error) {
	if err != nil {
		return nil, err
	}
	ch.Keys = slices.DeleteFunc(ch.Keys, func(h api.KeyHandle) bool {
		k, err := parseKeys([]string{h.PublicKey})
		return err != nil || !keep(ssh.FingerprintSHA256(k[0]))
	})
	if len(ch.Keys) == 0 {
		return nil, ErrKeyNotOffered
	}
	return ch, nil
}

// CheckRenewal holds a renewal's statement against the key that is to sign. Which others have to is the CA's to say.
func CheckRenewal(ch *api.Challenge, person name.Person, fingerprint string, seen Seen) (*statement.Renewal, error) {
	var s statement.Renewal
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	if err := compare([]field{{"person", s.Person, person}, {"key", s.Key, fingerprint}}); err != nil {
		return nil, err
	}
	if !slices.Contains(s.Keys, fingerprint) {
		return nil, differs("keys", s.Keys, fingerprint)
	}
	return &s, nil
}
