package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// A ledger that is lost is followed by another: of a new origin, under a new key, one epoch later. Its first entry names the last head of the lost one and
// holds the signatures of founders: they sign the new site, the policy that goes on, and all enrolments and recipients that do. Those follow as
// entries of their own, each naming its entry in the lost ledger.

// SuccessionSigners is how many founders have to sign: all of them, where there are fewer.
const SuccessionSigners = 2

// SiteSucceeded is the first entry of a ledger that follows a lost one.
type SiteSucceeded struct {
	Site    Site           `json:"site"`
	Old     OldLedger      `json:"old"`
	Policy  statement.Hash `json:"policy"`
	Carried statement.Hash `json:"carried"` // CarriedHash of what follows
	// Founders are those of the lost ledger: who may sign this one, and the next.
	Founders []name.Person      `json:"founders"`
	Signed   []SuccessionSigned `json:"signed"`
}

// OldLedger is the lost one.
type OldLedger struct {
	Origin     string `json:"origin"`
	Epoch      int    `json:"epoch"`
	LedgerKey  string `json:"ledger_key"`
	Checkpoint string `json:"checkpoint"` // its last head, signed by its key
}

// SuccessionSigned is a founder's signature.
type SuccessionSigned struct {
	Person    name.Person `json:"person"`
	PublicKey string      `json:"public_key"` // authorized_keys form
	Entry     int64       `json:"entry"`      // that enrolled it, in the lost ledger
	Statement string      `json:"statement"`
	SSHSIG    string      `json:"sshsig"`
}

// KeyCarried is an enrolment that goes on.
type KeyCarried struct {
	From         int64          `json:"from"` // its entry in the lost ledger
	Name         name.Key       `json:"name"`
	PublicKey    string         `json:"public_key"`
	CredentialID []byte         `json:"credential_id"`
	Counter      uint32         `json:"counter"`   // the last that was accepted
	Issued       int64          `json:"issued"`    // of the statement with that counter, Unix seconds
	Enrolment    string         `json:"enrolment"` // the enrolment statement's id
	Signed       statement.Hash `json:"signed"`    // names that statement and its signature
	Model        string         `json:"model,omitempty"`
	Since        Time           `json:"since"` // from when the policy's time of renewal is counted
	Proved       Time           `json:"proved"`
}

// RecipientCarried is a recipient of transcripts that goes on.
type RecipientCarried struct {
	From int64  `json:"from"`
	Age  string `json:"age"`
	// Sealed is how its owner keeps the other half. Recovery says that it is nobody's: its other half is on paper.
	Sealed   string `json:"sealed,omitempty"`
	Recovery bool   `json:"recovery,omitempty"`
}

func (*SiteSucceeded) EntryType() Type    { return "site.succeeded" }
func (*KeyCarried) EntryType() Type       { return "key.carried" }
func (*RecipientCarried) EntryType() Type { return "recipient.carried" }

// Carried is one thing that goes on, as CarriedHash takes it: the person's and the facts.
type Carried struct {
	Person name.Person `json:"person"`
	Key    string      `json:"key,omitempty"` // fingerprint, of a key
	Facts  Facts       `json:"facts"`
}

// CarriedHash is SHA-256 over each as a line of JSON, in order.
func CarriedHash(list []Carried) (statement.Hash, error) {
	h := sha256.New()
	for _, c := range list {
		b, err := encodeJSON(c)
		if err != nil {
			return statement.Hash{}, err
		}
		h.Write(append(b, '\n'))
	}
	return statement.Hash(h.Sum(nil)), nil
}

// SiteHash is SHA-256 of a site's JSON.
func SiteHash(s Site) (statement.Hash, error) {
	b, err := encodeJSON(s)
	return sha256.Sum256(b), err
}

// ErrSuccession is wrapped by what is wrong with a succession.
var ErrSuccession = errors.New("not a succession")

// Check judges a succession by itself: that its lost ledger's key signed the head it names, and that everybody who is said to have signed did sign exactly this,
// with a touch. Whether they are founders, and the keys theirs, is said by the lost ledger alone. It gives that ledger's head.
func (f *SiteSucceeded) Check() (Checkpoint, error) {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrSuccession}, a...)...)
	}
	head, err := OpenCheckpoint(f.Old.Checkpoint, f.Old.LedgerKey)
	if err != nil {
		return head, bad("%w", err)
	}
	if head.Origin != f.Old.Origin || f.Site.Origin == f.Old.Origin || f.Site.LedgerKey == f.Old.LedgerKey || f.Site.Epoch <= f.Old.Epoch {
		return head, bad("it is no other ledger of a later epoch")
	}
	site, err := SiteHash(f.Site)
	if err != nil {
		return head, bad("%w", err)
	}
	seen := map[name.Person]bool{}
	for _, s := range f.Signed {
		var st statement.Succession
		if err := statement.Parse([]byte(s.Statement), &st); err != nil {
			return head, bad("%w", err)
		}
		if st.Origin != f.Site.Origin || st.Epoch != f.Site.Epoch || st.Checkpoint != head.Pin() || st.Succeeds != f.Old.Origin || st.LedgerKey != f.Site.LedgerKey ||
			st.Site != site || st.Policy != f.Policy || st.Carried != f.Carried || st.Profile != f.Site.Profile || st.Person != s.Person ||
			!slices.EqualFunc(st.Founders, f.Founders, func(s string, p name.Person) bool { return s == string(p) }) {
			return head, bad("%s signed another one", s.Person)
		}
		key, err := parseKey(s.PublicKey)
		if err != nil {
			return head, bad("key of %s: %w", s.Person, err)
		}
		sig, err := sshsig.Parse([]byte(s.SSHSIG))
		if err == nil {
			err = sig.Verify(key, statement.KindSuccession.Namespace(), []byte(s.Statement))
		}
		if err != nil {
			return head, bad("signature of %s: %w", s.Person, err)
		}
		touch, err := sig.Touch()
		if err != nil || !touch.UserPresent() || f.Site.Profile != "demo" && !touch.UserVerified() {
			return head, bad("%s signed without a touch, or without a PIN", s.Person)
		}
		if !slices.Contains(f.Founders, s.Person) {
			return head, bad("%s is no founder", s.Person)
		}
		if seen[s.Person] {
			return head, bad("%s signed twice", s.Person)
		}
		seen[s.Person] = true
	}
	if len(f.Signed) == 0 {
		return head, bad("nobody signed")
	}
	return head, nil
}
