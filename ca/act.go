package ca

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/skfile"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// This file is the one home of "a person signs": what they are shown, and the order in which an answer is judged.
//
//	statement known, unused, unexpired → form, key, namespace, signature → [from here on each failure is an entry]
//	→ suspended → touch (UP) → PIN (UV) → where the key's enrolment stands → what the act itself asks → the counter, last.

// refused is the one answer to everybody who has not signed with an enrolled key.
func refused() *api.Problem {
	return &api.Problem{Status: 403, Code: api.CodeRefused, Detail: "refused: the person, the key or the signature is not known here",
		Next: []string{"breakglass keys", "ask an operator for an invite: breakglass-ca invite NAME"}}
}

func expired() *api.Problem {
	return &api.Problem{Status: 410, Code: api.CodeExpired, Detail: fmt.Sprintf("the statement is unknown, was used, or is older than %d s", int(statement.Validity.Seconds())), Next: []string{"ask again"}}
}

func badRequest(format string, a ...any) *api.Problem {
	return &api.Problem{Status: 400, Code: api.CodeBadRequest, Detail: fmt.Sprintf(format, a...)}
}

// handles lists the keys that may sign for a person; for a name that is not known, decoys that look the same and stay the same.
//
// As many decoys are made as keys are shown, whoever it is: a multiplication on the curve that only unknown names cost would be heard in the
// time of the answer, and the number of keys is in it anyway.
func (c *CA) handles(r *roster, p name.Person) ([]api.KeyHandle, bool, error) {
	real, n := r.handles[p], c.decoyCount(p)
	_, known := c.policy.Load().Person(p)
	if known = known && len(real) > 0; known {
		n = min(len(real), maxDecoys)
	}
	decoys, err := c.decoys(p, n, cmp.Or(r.CredentialLength, decoyCredential), r.flags())
	if err != nil {
		return nil, false, err
	}
	if known {
		return real, true, nil
	}
	return decoys, false, nil
}

// handleName is what a challenge calls the key at place i: what people call their keys would tell made-up ones from theirs. Their client knows them
// by the public key.
func handleName(i int) name.Key { return name.Key(fmt.Sprintf("key-%d", i+1)) }

// handle shows a key; blob is the public key's.
func handle(n name.Key, blob, credential []byte, flags byte) (api.KeyHandle, error) {
	file, err := skfile.Marshal(blob, credential, flags, string(n))
	return api.KeyHandle{Name: n, PublicKey: sshsig.KeyAlgoSK + " " + base64.StdEncoding.EncodeToString(blob), CredentialID: credential,
		Application: api.Application, KeyFile: file}, err
}

// maxDecoys is how many keys a made-up person has at the most.
const maxDecoys = 2

// decoyCount is how many keys are made up for a name: one or two, as people have; else two would say that the name is known.
func (c *CA) decoyCount(p name.Person) int { return 1 + int(c.derive(p, "name", 1)[0])%maxDecoys }

// decoys makes keys out of a name: the same each time, and nobody has them.
func (c *CA) decoys(p name.Person, n, length int, flags byte) ([]api.KeyHandle, error) {
	var out []api.KeyHandle
	for i, label := range []string{"", "2"}[:n] {
		d, err := c.decoy(p, label, handleName(i), length, flags)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// derive gives n bytes that follow from the CA's secret, the name and the label.
func (c *CA) derive(p name.Person, label string, n int) []byte {
	var out []byte
	for i := byte(0); len(out) < n; i++ {
		h := hmac.New(sha256.New, c.decoySeed[:])
		h.Write([]byte{i})
		h.Write([]byte(label + "\x00" + string(p)))
		out = h.Sum(out)
	}
	return out[:n]
}

func (c *CA) decoy(p name.Person, which string, called name.Key, length int, flags byte) (api.KeyHandle, error) {
	var priv *ecdh.PrivateKey
	for label := "scalar" + which; ; label += "+" { // one in 2^32 hashes is no scalar of P-256
		var err error
		if priv, err = ecdh.P256().NewPrivateKey(c.derive(p, label, 32)); err == nil {
			break
		}
	}
	blob := ssh.Marshal(struct {
		T, C string
		P    []byte
		A    string
	}{sshsig.KeyAlgoSK, "nistp256", priv.PublicKey().Bytes(), api.Application})
	return handle(called, blob, c.derive(p, "credential"+which, length), flags)
}

// decoyCredential is the length in bytes of a made-up credential id where no key is enrolled yet: common keys have 64.
const decoyCredential = 64

func parseKey(s string) (ssh.PublicKey, error) {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s))
	return k, err
}

// act is a person's signature that verified under an enrolled key of theirs.
type act struct {
	ch    *challenge
	key   state.Key
	sig   *sshsig.Signature
	touch sshsig.Touch
	code  string // of the other channel, beside the signature; "" if none was given
}

func (a *act) ledgerTouch() ledger.Touch {
	return ledger.Touch{Key: a.key.Fingerprint, Flags: a.touch.Flags, Counter: a.touch.Counter}
}

// proven judges an answer up to the signature. What fails here is counted, not recorded, and everybody reads the same text.
func (c *CA) proven(ctx context.Context, ch *challenge, armored string, from netip.Addr) (*act, error) {
	sig, err := sshsig.Parse([]byte(armored))
	if err != nil {
		c.strangers.add("malformed_signature", from)
		return nil, refused()
	}
	r, err := c.roster(ctx)
	if err != nil {
		return nil, err
	}
	a := &act{ch: ch, sig: sig}
	reason, fp := "", ssh.FingerprintSHA256(sig.PublicKey)
	var known bool
	if a.key, known = r.Keys[fp]; !known || ch.person == "" || a.key.Person != ch.person {
		reason = "unknown_key"
		if ch.person != "" {
			reason = "wrong_key"
		}
	} else {
		pub := r.public[fp]
		if err := sig.Verify(pub, ch.st.Kind().Namespace(), ch.text); err != nil {
			reason = "bad_signature"
			if errors.Is(err, sshsig.ErrNamespace) {
				reason = "wrong_namespace"
			}
		} else if a.touch, err = sig.Touch(); err != nil {
			reason = "malformed_signature"
		}
	}
	if reason != "" {
		c.strangers.add(reason, from)
		return nil, refused()
	}
	return a, nil
}

// judgeTouch judges the key's state and what it proved. It gives the typed reason of a refusal, or nil.
func judgeTouch(k state.Key, t sshsig.Touch, uv bool) *ledger.Reason {
	switch {
	case k.Revoked:
		return &ledger.Reason{Code: api.CodeRevoked, Detail: fmt.Sprintf("key %s is revoked", k.Name)}
	case k.Suspended:
		return &ledger.Reason{Code: api.CodeSuspended, Detail: fmt.Sprintf("key %s is suspended", k.Name)}
	case !t.UserPresent():
		return &ledger.Reason{Code: api.CodeNoTouch, Detail: fmt.Sprintf("key %s signed without a touch", k.Name)}
	case uv && !t.UserVerified():
		return &ledger.Reason{Code: api.CodeNoPIN, Detail: fmt.Sprintf("key %s signed without a PIN or biometric", k.Name)}
	}
	return nil
}

// judgeCounter comes last. late: crossed answers on a bad line. clone: the statement is newer than the one accepted, so the counter went back.
func judgeCounter(k state.Key, t sshsig.Touch, issued time.Time) (r *ledger.Reason, clone bool) {
	if t.Counter > k.Counter {
		return nil, false
	}
	return &ledger.Reason{Code: api.CodeLate, Detail: fmt.Sprintf("the counter of %s is %d, and %d was accepted before", k.Name, t.Counter, k.Counter)},
		issued.After(k.Issued)
}

// suspend records that a key's counter went back.
func (c *CA) suspend(tx *state.Tx, a *act, accepted uint32) error {
	e := c.entry(ledger.ActorCA, ledger.Subject{Person: a.key.Person, Key: a.key.Fingerprint},
		&ledger.KeySuspended{Why: "counter_went_back", Accepted: accepted, Seen: a.touch.Counter})
	_, _, err := tx.Append(e)
	return err
}

// problem turns a typed reason about the key into what the person reads.
func keyProblem(r ledger.Reason) *api.Problem {
	p := &api.Problem{Status: 403, Code: r.Code, Detail: r.Detail, Reasons: []ledger.Reason{r}}
	switch r.Code {
	case api.CodeLate:
		p.Status, p.Next = 409, []string{"ask again: an earlier answer may have crossed this one"}
	case api.CodeNoTouch:
		p.Next = []string{"touch the key when it blinks"}
	case api.CodeNoPIN:
		p.Next = []string{"give the key's PIN", "a key without a PIN: ssh-keygen or fido2-token -S sets one"}
	case api.CodeRevoked:
		p.Next = []string{"use your other key", "ask an operator why: breakglass-ca status"}
	case api.CodeSuspended:
		p.Next = []string{"use your other key", "two approvers can lift it"}
	}
	return p
}

// signed puts the statement and its signature into an entry.
func (a *act) signed(e *ledger.Entry) *ledger.Entry {
	e.Statement, e.SSHSIG = string(a.ch.text), string(a.sig.Armor())
	return e
}
