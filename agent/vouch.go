package agent

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// ErrEnrolment says that what the CA shows as somebody's new key does not prove itself.
var ErrEnrolment = errors.New("the enrolment that the CA shows does not prove itself")

// NewKey is an enrolled key as its own entry proves it: nothing of it is on the CA's word.
type NewKey struct {
	ID          string         // of the enrolment
	Signed      statement.Hash // what vouching for it signs
	Person      name.Person
	Key         name.Key
	Fingerprint string
	Model       string // that its attestation proves, with the firmware if it says so; "" for a software key of the demo
	UV          bool   // PIN or biometric at the enrolment
	Recovery    bool
	Enrolled    time.Time
}

// Tail is what its holder reads aloud, and a voucher types.
func (k *NewKey) Tail() string { return k.Fingerprint[max(0, len(k.Fingerprint)-TailLength):] }

// TailLength is how much of a fingerprint is compared by voice: 8 characters of base64 are 48 bits, and who made the key can't try its end
// against a listener more than once.
const TailLength = 8

// CheckNewKey proves a key.enrolled entry: the key signed its own enrolment, and its attestation shows its make. That the entry is in the
// ledger is for the client to have checked.
func CheckNewKey(raw string, site ledger.Site) (*NewKey, error) {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w", ErrEnrolment, fmt.Errorf(format, a...))
	}
	e, err := ledger.Decode([]byte(raw))
	if err != nil {
		return nil, bad("%w", err)
	}
	f, ok := e.Facts.(*ledger.KeyEnrolled)
	if !ok {
		return nil, bad("it is a %s", e.Type())
	}
	pub, err := parseKeys([]string{f.PublicKey})
	if err != nil {
		return nil, bad("%w", err)
	}
	var st statement.Enrolment
	if err := statement.Parse([]byte(e.Statement), &st); err != nil {
		return nil, bad("%w", err)
	}
	sig, err := sshsig.Parse([]byte(e.SSHSIG))
	if err == nil {
		err = sig.Verify(pub[0], statement.KindEnrolment.Namespace(), []byte(e.Statement))
	}
	if err != nil {
		return nil, bad("%w", err)
	}
	t, err := sig.Touch()
	if err != nil || !t.UserPresent() {
		return nil, bad("the key was not touched")
	}
	k := &NewKey{ID: st.ID, Signed: statement.SignedHash(e.Statement, e.SSHSIG), Person: st.Person, Key: st.Key, Fingerprint: ssh.FingerprintSHA256(pub[0]),
		UV: t.UserVerified(), Recovery: f.Recovery, Enrolled: e.Time.Time}
	switch {
	case st.Origin != site.Origin:
		return nil, bad("it is of %s", st.Origin)
	case e.Subject.Person != st.Person || e.Subject.Key != k.Fingerprint || st.Key != f.Name || st.PublicKey != f.PublicKey:
		return nil, bad("the entry says something else than what was signed")
	}
	if f.Software {
		if site.Profile != "demo" {
			return nil, bad("a software key")
		}
		return k, nil
	}
	if k.Model, err = f.Make(e.Time.Time); err != nil {
		return nil, bad("%w", err)
	}
	return k, nil
}

// CheckEnrolments proves all that wait. Those that don't prove themselves are an error: a CA that shows such a thing is not to be trusted with the rest.
func CheckEnrolments(l *api.EnrolmentList, site ledger.Site) ([]*NewKey, error) {
	var out []*NewKey
	for _, e := range l.Enrolments {
		k, err := CheckNewKey(e.Entry.Entry, site)
		if err != nil {
			return nil, err
		}
		if k.ID != e.ID || k.Signed != e.Signed {
			return nil, fmt.Errorf("%w: listed as another enrolment", ErrEnrolment)
		}
		out = append(out, k)
	}
	return out, nil
}
