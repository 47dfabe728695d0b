package ca

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file is the one home of the code of a person's other channel (RFC 6238): one more factor where a rule says so, never instead of a touch.
//
// SHA-1, 6 digits, 30 seconds: what every authenticator app takes; several ignore the other parameters of the URI and then make wrong
// codes. HMAC does not stand on what is broken in SHA-1 (RFC 6194 section 3.3); what guards six digits is the lock (ledger.TOTPTries).
//
// A code counts once. That it was used, or that it was wrong, is an entry in the transaction of what it was given for, before anything is
// answered: neither a restart nor a hundred answers at once make two of it.

const (
	// totpSeedLife is how long a seed that was made may be enrolled: time to find the phone.
	totpSeedLife = 15 * time.Minute
	// maxTOTPCode bounds what is read as a code: six digits, and how people write them down.
	maxTOTPCode = 16
)

// totpProblem is what a person reads of a code that did not count.
func totpProblem(r ledger.Reason) *api.Problem {
	p := &api.Problem{Status: 403, Code: r.Code, Detail: r.Detail, Reasons: []ledger.Reason{r}}
	switch r.Code {
	case ledger.TOTPCodeWrong:
		p.Next = []string{"read the code anew and ask again", "its clock must be right: set the phone's time to automatic"}
	case ledger.TOTPCodeReplay:
		p.Next = []string{"wait for the next code: each counts once"}
	case ledger.TOTPCodeLocked:
		p.Next = []string{"wait, or have two approvers lift it: breakglass approve totp:PERSON"}
	case ledger.TOTPCodeCurrent:
		p.Next = []string{"give a code of that device too; if it is gone, two approvers take it away: breakglass approve --reset totp:PERSON"}
	case ledger.TOTPCodeNone:
		p.Next = []string{"breakglass totp enroll"}
	case ledger.TOTPCodeUnsound:
		p.Next = []string{"have two approvers take it away: breakglass approve --reset totp:PERSON; then: breakglass totp enroll"}
	}
	return p
}

// totpSealer seals to the state key.
func (c *CA) totpSealer() totpSealer {
	return totpSealer{key: c.keys.state, origin: c.keys.ledger.Name()}
}

// totpNormal reads what a person typed: spaces and dashes between the digits are forgiven, and nothing else. "" is no code. There is one
// spelling of a code before it is compared, so no second one passes for another.
func totpNormal(s string) (string, bool) {
	if len(s) > maxTOTPCode {
		return "", false
	}
	s = strings.NewReplacer(" ", "", "-", "").Replace(s)
	if len(s) != 6 {
		return "", false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "", false
		}
	}
	return s, true
}

// totpMatch finds the latest step about at whose code is code; 0 is none. Every step is tried, whichever fits.
func totpMatch(seed []byte, code string, at time.Time) (int64, error) {
	now, found := ledger.TOTPStep(at), int64(0)
	secret := base32.StdEncoding.EncodeToString(seed)
	for step := now - ledger.TOTPSkew; step <= now+ledger.TOTPSkew; step++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			found = step
		}
	}
	return found, nil
}

// totpCheck judges a code of person's, in the writer. about is what it was given for: its request stands in the entry.
//
// It appends what has to be remembered itself (totp.used; totp.refused and totp.locked), so the caller must let the transaction commit
// whatever comes of it: a refusal is the reason, never an error. ok is true once for a code.
func (c *CA) totpCheck(tx *state.Tx, person name.Person, typed string, now time.Time, about ledger.Subject) (ok bool, reason *ledger.Reason, err error) {
	about.Person = person
	t, err := tx.TOTP(person)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return false, nil, err
	}
	none := err != nil
	refuse := func(code, format string, a ...any) (bool, *ledger.Reason, error) {
		wrong := t.Wrong
		if code == ledger.TOTPCodeWrong {
			wrong++
		}
		r := &ledger.Reason{Code: code, Detail: fmt.Sprintf(format, a...)}
		if _, _, err := tx.Append(c.entryAt(now, about, &ledger.TOTPRefused{Code: code, Wrong: wrong})); err != nil {
			return false, nil, err
		}
		if d := ledger.TOTPLockFor(wrong); code == ledger.TOTPCodeWrong && d > 0 {
			if _, _, err := tx.Append(c.entryAt(now, about, &ledger.TOTPLocked{Wrong: wrong, Until: ledger.At(ledger.At(now).Add(d))})); err != nil {
				return false, nil, err
			}
			r.Detail += fmt.Sprintf("; %d were wrong, so codes of %s are locked for %s", wrong, person, d)
		}
		return false, r, nil
	}
	if none {
		return refuse(ledger.TOTPCodeNone, "%s has enrolled no device that makes codes", person)
	}
	if now.Before(t.LockedUntil) {
		return refuse(ledger.TOTPCodeLocked, "too many codes of %s were wrong: locked until %s", person, t.LockedUntil.UTC().Format("15:04:05Z"))
	}
	seed, _, err := c.totpSealer().open(t.Sealed, person, t.Device)
	if err != nil {
		c.log.Error("a sealed seed does not open with this CA's state key", "person", person, "error", err)
		return refuse(ledger.TOTPCodeUnsound, "the CA can't read the seed of %s's %s any more", person, t.Device)
	}
	defer clear(seed)
	code, six := totpNormal(typed)
	if !six {
		return refuse(ledger.TOTPCodeWrong, "a code is six digits")
	}
	step, err := totpMatch(seed, code, now)
	switch {
	case err != nil:
		return false, nil, err
	case step == 0:
		return refuse(ledger.TOTPCodeWrong, "the code is not the one that %s shows now", t.Device)
	case step <= t.Step:
		return refuse(ledger.TOTPCodeReplay, "that code, or a later one, was used already")
	}
	_, _, err = tx.Append(c.entryAt(now, about, &ledger.TOTPUsed{Device: t.Device, Step: step}))
	return err == nil, nil, err
}

// totpFact is the code as a fact for the policy: unknown without one, yes for one that counts. A code that does not count is a refusal
// whatever the rule asks: who gives one means it to count.
func (c *CA) totpFact(tx *state.Tx, person name.Person, code string, about ledger.Subject) (policy.Tri, *ledger.Reason, error) {
	if code == "" {
		return policy.Unknown, nil, nil
	}
	ok, reason, err := c.totpCheck(tx, person, code, c.now(), about)
	if err != nil || reason != nil {
		return policy.No, reason, err
	}
	return policy.TriOf(ok), nil, nil
}

func (c *CA) entryAt(at time.Time, s ledger.Subject, f ledger.Facts) *ledger.Entry {
	return &ledger.Entry{Time: ledger.At(at), Actor: ledger.ActorCA, Subject: s, Facts: f}
}

// totpSeed makes a seed. It is shown here and never again: what stays is the sealed one, in the hands of whoever asked, until a touch
// enrols it. Nobody has proved anything yet, and the seed is nobody's.
func (c *CA) totpSeed(q *api.TOTPSeedAsk, from netip.Addr) (*api.TOTPSeed, error) {
	if p := c.place(from); p != nil {
		return nil, p
	}
	person, device, err := totpNames(q.Person, q.Device)
	if err != nil {
		return nil, err
	}
	seed := make([]byte, totpSeedSize)
	rand.Read(seed)
	defer clear(seed)
	sealed, err := c.totpSealer().seal(seed, person, device, c.now())
	if err != nil {
		return nil, err
	}
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
	site := c.policy.Load().Site.Name
	uri := url.URL{Scheme: "otpauth", Host: "totp", Path: "/breakglass " + site + ":" + string(person), RawQuery: "secret=" + secret +
		"&issuer=" + url.PathEscape("breakglass "+site) + "&algorithm=SHA1&digits=6&period=30"}
	return &api.TOTPSeed{Secret: secret, URI: uri.String(), Sealed: sealed, Until: c.now().Add(totpSeedLife).Truncate(time.Second)}, nil
}

func totpNames(person, device string) (name.Person, name.Key, error) {
	p, err := name.ParsePerson(person)
	if err != nil {
		return "", "", badRequest("%v", err)
	}
	d, err := name.ParseKey(device)
	if err != nil {
		return "", "", badRequest("device: %v", err)
	}
	return p, d, nil
}

// totp makes the statement that enrols a seed, or takes a device away.
func (c *CA) totp(ctx context.Context, q *api.TOTPAsk, from netip.Addr) (*api.Challenge, error) {
	person, device, err := totpNames(q.Person, q.Device)
	if err != nil {
		return nil, err
	}
	st := &statement.TOTP{Act: q.Act, Device: device}
	switch {
	case q.Act == statement.TOTPEnrol:
		if err := st.Seed.UnmarshalText([]byte(q.Seed)); err != nil || st.Seed == (statement.Hash{}) {
			return nil, badRequest("seed: want the SHA-256 of the sealed one")
		}
	case q.Act == statement.TOTPRemove && q.Seed == "": // whether there is such a device is told after the touch
	default:
		return nil, badRequest("act %q: want %s, or %s without a seed", q.Act, statement.TOTPEnrol, statement.TOTPRemove)
	}
	return c.begin(ctx, string(person), from, st, nil)
}

// signTOTP judges the touch, the first code of a new seed, and, where there are codes already, one of those: else a stolen key could put a
// factor of the thief's in the place of the person's.
func (c *CA) signTOTP(ctx context.Context, id string, q *api.TOTPSigned, from netip.Addr) (*api.TOTPState, error) {
	out := &api.TOTPState{}
	err := c.finish(ctx, id, q.SSHSIG, from, statement.KindTOTP, func(tx *state.Tx, a *act) (outcome, error) {
		st, now := a.ch.st.(*statement.TOTP), c.now()
		no := func(code, format string, v ...any) error {
			return totpProblem(ledger.Reason{Code: code, Detail: fmt.Sprintf(format, v...)})
		}
		old, err := tx.TOTP(st.Person)
		has := err == nil
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return outcome{}, err
		}
		if st.Act == statement.TOTPRemove && (!has || old.Device != st.Device) {
			return outcome{}, no(ledger.TOTPCodeNone, "%s has no device %q that makes codes", st.Person, st.Device)
		}
		if has {
			current := q.Current
			if st.Act == statement.TOTPRemove {
				current = q.TOTP
			}
			if current == "" {
				p := totpProblem(ledger.Reason{Code: ledger.TOTPCodeCurrent, Detail: fmt.Sprintf("%s makes codes already: one of those is wanted too", old.Device)})
				return outcome{}, p
			}
			if ok, reason, err := c.totpCheck(tx, st.Person, current, now, ledger.Subject{Key: a.key.Fingerprint}); err != nil {
				return outcome{}, err
			} else if !ok {
				return outcome{}, totpProblem(*reason)
			}
		}
		out.Person, out.Device = st.Person, st.Device
		if st.Act == statement.TOTPRemove {
			return outcome{facts: &ledger.TOTPRemoved{Device: old.Device, How: "person", Lifts: old.Enrolled}}, nil
		}
		if statement.Hash(sha256.Sum256(q.Sealed)) != st.Seed {
			return outcome{}, badRequest("sealed: not the one that was signed for")
		}
		seed, made, err := c.totpSealer().open(q.Sealed, st.Person, st.Device)
		if err != nil {
			return outcome{}, badRequest("sealed: %v", err)
		}
		defer clear(seed)
		if d := now.Sub(made); d > totpSeedLife || d < -totpSeedLife || has && statement.Hash(sha256.Sum256(old.Sealed)) == st.Seed {
			return outcome{}, &api.Problem{Status: 410, Code: api.CodeExpired, Detail: "the seed is too old, or enrolled already", Next: []string{"breakglass totp enroll"}}
		}
		code, six := totpNormal(q.TOTP)
		if !six {
			return outcome{}, no(ledger.TOTPCodeWrong, "a code is six digits")
		}
		step, err := totpMatch(seed, code, now)
		if err != nil {
			return outcome{}, err
		}
		if step == 0 { // of a seed that is nobody's yet: nothing is counted, and nothing was guessed at
			return outcome{}, no(ledger.TOTPCodeWrong, "the code is not the one that the new seed gives now")
		}
		return outcome{facts: &ledger.TOTPEnrolled{Device: st.Device, Sealed: q.Sealed, Step: step, Touch: a.ledgerTouch()}}, nil
	})
	return out, err
}

// totpOf says whether a code counted for a request: also when it is decided later, on the last approval or an override.
func (c *CA) totpOf(tx *state.Tx, r *statement.Request) (policy.Tri, error) {
	used, err := tx.TOTPUsedFor(r.ID)
	if err != nil || !used {
		return policy.Unknown, err
	}
	return policy.Yes, nil
}
