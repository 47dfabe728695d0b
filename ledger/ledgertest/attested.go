package ledgertest

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"breakglass/internal/attest"
	"breakglass/internal/attest/attesttest"
	"breakglass/internal/name"
	"breakglass/internal/softkey"
	"breakglass/ledger"
)

// Production begins a log of a production site whose policy lists the vendor's model; it has no founding yet.
func Production(t testing.TB, v *attesttest.Vendor) *Log {
	t.Helper()
	l := begin(t, "production", strings.Replace(Policy, `"demo"`, `"production"`, 1)+"\n"+v.PolicyText())
	// Batch certificates are made when the test runs.
	l.Now = time.Now().UTC().Truncate(time.Second)
	return l
}

// EnrolAttested enrols a key of that configuration (with PIN 1234) over the challenge. What the CA would add to its entry, were it good, is added
// whether it is good or not.
func (l *Log) EnrolAttested(p name.Person, v *attesttest.Vendor, cfg softkey.Config, challenge []byte) *Person {
	l.T.Helper()
	return l.enrol(p, cfg, challenge, func(f *ledger.KeyEnrolled) {
		a := f.Attestation
		a.Chain, a.Model, a.Firmware = [][]byte{v.Intermediate.Raw, v.Root.Raw}, v.Name, "5.7.1"
		a.Root, a.Policy = sha256.Sum256(v.Root.Raw), l.policy
	})
}

// Challenge is client data for an attestation, as long as it has to be.
func Challenge(b byte) []byte {
	return append(make([]byte, attest.ChallengeSize-1), b)
}
