package statement

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"breakglass/internal/name"
)

// KindReadingRotation puts a new age public key of its owner in the place of one.
const KindReadingRotation Kind = "reading-rotation"

// What operators order about to whom recordings are sealed.
const (
	OrderRemoveRecipients = "remove-recipients" // a person: nothing new is sealed to them until they add a recipient anew
	OrderSetRecovery      = "set-recovery"      // the recovery key's public half, by its SHA256:… fingerprint (RecipientFingerprint)
)

// ReadingRotation has transcripts sealed to Age, and no more to Old. What was sealed to Old stays so.
type ReadingRotation struct {
	Origin     string      `st:"origin"`
	Epoch      int         `st:"epoch"`
	Checkpoint Checkpoint  `st:"checkpoint"`
	ID         string      `st:"rotation"`
	Nonce      Nonce       `st:"nonce"`
	Issued     time.Time   `st:"issued"`
	Expires    time.Time   `st:"expires"`
	Person     name.Person `st:"person"`
	Old        string      `st:"old"`
	Age        string      `st:"age"`
	Sealed     string      `st:"sealed"` // how the new identity is kept, as in Recipient
}

func (*ReadingRotation) Kind() Kind { return KindReadingRotation }

// RecipientFingerprint names an age recipient where its text is too long to be read: a post-quantum one has 1,959 characters. It is spelled as
// the fingerprints of keys are.
func RecipientFingerprint(age string) string {
	h := sha256.Sum256([]byte(age))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(h[:])
}
