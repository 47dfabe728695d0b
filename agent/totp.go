package agent

import (
	"context"
	"crypto/sha256"
	"errors"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TOTPCA is what codes need of the CA's client.
type TOTPCA interface {
	TOTPSeed(ctx context.Context, q api.TOTPSeedAsk) (*api.TOTPSeed, error)
	TOTP(ctx context.Context, q api.TOTPAsk) (*api.Challenge, error)
	SignTOTP(ctx context.Context, id string, s api.TOTPSigned) (*api.TOTPState, error)
}

// Codes asks the person for the code that a device shows now. current says that it is the device of until now, which is being replaced.
type Codes func(ctx context.Context, current bool) (string, error)

// CheckTOTP holds the statement of a device that makes codes against what was asked; seed is zero for a removal.
func CheckTOTP(ch *api.Challenge, person name.Person, act string, device name.Key, seed statement.Hash, seen Seen) (*statement.TOTP, error) {
	var s statement.TOTP
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	return &s, compare([]field{
		{"person", s.Person, person},
		{"act", s.Act, act},
		{"device", s.Device, device},
		{"seed", s.Seed, seed},
	})
}

// EnrolTOTP has a device make codes from now on. show is given the seed, once; the codes are asked for before the key is.
func (a *Agent) EnrolTOTP(ctx context.Context, ca TOTPCA, person name.Person, device name.Key, show func(*api.TOTPSeed) error, codes Codes) (*api.TOTPState, error) {
	seed, err := ca.TOTPSeed(ctx, api.TOTPSeedAsk{Person: string(person), Device: string(device)})
	if err != nil {
		return nil, err
	}
	if err := show(seed); err != nil {
		return nil, err
	}
	return a.signTOTP(ctx, ca, person, statement.TOTPEnrol, device, seed.Sealed, codes)
}

// RemoveTOTP takes a device away, with a code of it.
func (a *Agent) RemoveTOTP(ctx context.Context, ca TOTPCA, person name.Person, device name.Key, codes Codes) (*api.TOTPState, error) {
	return a.signTOTP(ctx, ca, person, statement.TOTPRemove, device, nil, codes)
}

func (a *Agent) signTOTP(ctx context.Context, ca TOTPCA, person name.Person, act string, device name.Key, sealed []byte, codes Codes) (*api.TOTPState, error) {
	q, hash := api.TOTPAsk{Person: string(person), Act: act, Device: string(device)}, statement.Hash{}
	if sealed != nil {
		hash = sha256.Sum256(sealed)
		q.Seed = hash.String()
	}
	answer := api.TOTPSigned{Sealed: sealed}
	for {
		var err error
		if answer.TOTP, err = codes(ctx, false); err != nil {
			return nil, err
		}
		s, err := a.sign(ctx, func() (*api.Challenge, error) {
			return ca.TOTP(ctx, q)
		}, func(ch *api.Challenge) (statement.Statement, error) {
			return CheckTOTP(ch, person, act, device, hash, a.cfg.Seen())
		})
		if err != nil {
			return nil, err
		}
		answer.SSHSIG = s.armor
		st, err := ca.SignTOTP(ctx, s.id, answer)
		if p := new(api.Problem); !errors.As(err, &p) || p.Code != ledger.TOTPCodeCurrent || answer.Current != "" {
			return st, err
		}
		if answer.Current, err = codes(ctx, true); err != nil {
			return nil, err
		}
	}
}
