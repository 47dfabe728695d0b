package statement

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// OrderChangeWitnesses gives the site another list of witnesses; its target is the list's fingerprint (WitnessesFingerprint).
const OrderChangeWitnesses = "change-witnesses"

// WitnessesFingerprint names a site's list of witnesses, a line each, in its order. It is spelled as the fingerprints of keys are.
func WitnessesFingerprint(list []string) string {
	h := sha256.Sum256([]byte(strings.Join(list, "\n") + "\n"))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(h[:])
}
