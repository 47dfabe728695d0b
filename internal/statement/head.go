package statement

import (
	"crypto/sha256"
	"reflect"
	"time"

	"breakglass/internal/name"
)

// Head is what every statement for a person begins with, whatever its kind.
type Head struct {
	Origin          string
	Epoch           int
	Checkpoint      Checkpoint
	ID              string // the act's own: the third field of its kind
	Nonce           Nonce
	Issued, Expires time.Time
	Person          name.Person
}

// HeadOf reads the head of s; false for a machine's statement, which names no person.
func HeadOf(s Statement) (Head, bool) {
	v := reflect.ValueOf(s).Elem()
	p := v.FieldByName("Person")
	if !p.IsValid() || !v.FieldByName("Expires").IsValid() {
		return Head{}, false
	}
	return Head{
		Origin: v.FieldByName("Origin").String(), Epoch: int(v.FieldByName("Epoch").Int()),
		Checkpoint: v.FieldByName("Checkpoint").Interface().(Checkpoint), ID: v.FieldByName("ID").String(),
		Nonce:  v.FieldByName("Nonce").Interface().(Nonce),
		Issued: v.FieldByName("Issued").Interface().(time.Time), Expires: v.FieldByName("Expires").Interface().(time.Time),
		Person: p.Interface().(name.Person),
	}, true
}

// SetHead writes h into s, a person's statement.
func SetHead(s Statement, h Head) {
	v := reflect.ValueOf(s).Elem()
	v.FieldByName("Origin").SetString(h.Origin)
	v.FieldByName("Epoch").SetInt(int64(h.Epoch))
	v.FieldByName("Checkpoint").Set(reflect.ValueOf(h.Checkpoint))
	v.FieldByName("ID").SetString(h.ID)
	v.FieldByName("Nonce").Set(reflect.ValueOf(h.Nonce))
	v.FieldByName("Issued").Set(reflect.ValueOf(h.Issued))
	v.FieldByName("Expires").Set(reflect.ValueOf(h.Expires))
	v.FieldByName("Person").SetString(string(h.Person))
}

// SignedHash names a signed act: SHA-256 over the statement's bytes, a NUL (which no statement holds), and the armored signature as the
// ledger has it. Who approves, vouches or countersigns signs this hash, and so exactly that statement under exactly that signature.
func SignedHash(text, armor string) Hash {
	h := sha256.New()
	h.Write([]byte(text))
	h.Write([]byte{0})
	h.Write([]byte(armor))
	return Hash(h.Sum(nil))
}
