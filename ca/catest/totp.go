package catest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/pquerna/otp/totp"

	"breakglass/ca/api"
	"breakglass/internal/statement"
)

// Device makes a person's codes, as a phone does.
type Device struct {
	Person *Person
	Name   string
	Seed   *api.TOTPSeed
}

// Device gets a seed; it is not enrolled yet.
func (p *Person) Device(name string) *Device {
	p.CA.T.Helper()
	s, err := p.Client.TOTPSeed(context.Background(), api.TOTPSeedAsk{Person: string(p.Name), Device: name})
	Must(p.CA.T, err)
	return &Device{Person: p, Name: name, Seed: s}
}

// Code is what the device shows at a moment; another implementation than the CA's counts the steps.
func (d *Device) Code(at time.Time) string {
	d.Person.CA.T.Helper()
	c, err := totp.GenerateCode(d.Seed.Secret, at)
	Must(d.Person.CA.T, err)
	return c
}

// Enrol enrols the device with a code, and one of the device before it if there is one.
func (d *Device) Enrol(code, current string) (*api.TOTPState, error) {
	sum := sha256.Sum256(d.Seed.Sealed)
	ch, err := d.Person.Client.TOTP(context.Background(), api.TOTPAsk{Person: string(d.Person.Name), Act: statement.TOTPEnrol, Device: d.Name, Seed: hex.EncodeToString(sum[:])})
	if err != nil {
		return nil, err
	}
	return d.Person.Client.SignTOTP(context.Background(), ch.ID, api.TOTPSigned{SSHSIG: d.Person.Sign(ch), TOTP: code, Current: current, Sealed: d.Seed.Sealed})
}

// Remove takes the device away.
func (d *Device) Remove(code string) (*api.TOTPState, error) {
	ch, err := d.Person.Client.TOTP(context.Background(), api.TOTPAsk{Person: string(d.Person.Name), Act: statement.TOTPRemove, Device: d.Name})
	if err != nil {
		return nil, err
	}
	return d.Person.Client.SignTOTP(context.Background(), ch.ID, api.TOTPSigned{SSHSIG: d.Person.Sign(ch), TOTP: code})
}

// RequestWith is Request with a code.
func (p *Person) RequestWith(login, host, code string) (*Grant, error) {
	g := &Grant{Key: NewKey(p.CA.T)}
	q := p.Want(g.Key.PublicKey())
	q.Login, q.Host = login, host
	ch, err := p.Client.Ask(context.Background(), q)
	if err != nil {
		return nil, err
	}
	g.Granted, err = p.Client.SignRequest(context.Background(), ch.ID, api.Signed{SSHSIG: p.Sign(ch), TOTP: code})
	return g, err
}
