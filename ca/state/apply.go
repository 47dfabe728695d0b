package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// apply changes the tables as the entry says. It is the only code that writes them, so that a rebuild gives the same.
func (t *Tx) apply(idx int64, raw []byte, e *ledger.Entry) error {
	t.signed = nil
	if err := t.applySignature(idx, e); err != nil {
		return err
	}
	if err := errors.Join(t.applyTime(idx, e), t.applyRefusal(e)); err != nil {
		return err
	}
	t.unrostered = t.unrostered || !rosterStands(e.Facts)
	s := e.Subject
	at := e.Time.UnixMicro()
	switch f := e.Facts.(type) {
	case *ledger.SiteCreated:
		return t.exec(`INSERT INTO facts_of_site (one, idx, site, policy_idx, policy, founded) VALUES (1, $1, $2, -1, '', 0)`, idx, text(f.Site))
	case *ledger.SiteSucceeded:
		return t.applySucceeded(idx, f)
	case *ledger.KeyCarried:
		return t.exec(`INSERT INTO keys (fingerprint, idx, person, name, public_key, credential, counter, issued, suspended, enrolment, signed, model, recovery, code, vouched, counts_from, since, proved)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, 0, 0, 1, $12, $13, $14)`,
			s.Key, idx, string(s.Person), string(f.Name), f.PublicKey, f.CredentialID, f.Counter, f.Issued, f.Enrolment, f.Signed.String(), f.Model, at, f.Since.UnixMicro(), f.Proved.UnixMicro())
	case *ledger.RecipientCarried:
		if f.Recovery {
			return t.exec(`INSERT OR REPLACE INTO recovery (one, idx, age) VALUES (1, $1, $2)`, idx, f.Age)
		}
		return t.exec(`INSERT OR REPLACE INTO recipients (age, idx, person, sealed) VALUES ($1, $2, $3, $4)`, f.Age, idx, string(s.Person), f.Sealed)
	case *ledger.SiteChanged:
		return errors.Join(t.exec(`UPDATE facts_of_site SET idx = $1, site = $2`, idx, text(f.Site)), t.applyRetired(&f.Site))
	case *ledger.PolicyText, *ledger.PolicyAdopted, *ledger.PolicySigned, *ledger.PolicyRefused, *ledger.PolicyImported:
		return t.applyPolicy(idx, e)
	case *ledger.KeyEnrolled, *ledger.KeyVouched, *ledger.FoundingSigned, *ledger.Founding, *ledger.KeyProved, *ledger.EnrolmentRenewed:
		return t.applyKeys(idx, e)
	case *ledger.InviteCreated:
		return t.exec(`INSERT INTO invites (hash, kind, name, expires, used) VALUES ($1, $2, $3, $4, 0)`, f.Invite.String(), f.For, f.Name, f.Expires.UnixMicro())
	case *ledger.KeySuspended, *ledger.KeyUnlocked, *ledger.PersonLocked, *ledger.PersonUnlocked, *ledger.ClockAccepted:
		return t.applyLockout(idx, raw, e)
	case *ledger.TOTPEnrolled, *ledger.TOTPRemoved, *ledger.TOTPUsed, *ledger.TOTPRefused, *ledger.TOTPLocked, *ledger.TOTPUnlocked:
		return t.applyTOTP(idx, raw, e)
	case *ledger.RecipientAdded, *ledger.RecipientRotated, *ledger.RecipientsRemoved, *ledger.RecoverySet, *ledger.RecipientsChanged:
		return t.applyRecipients(idx, e)
	case *ledger.PassGranted:
		return t.exec(`INSERT INTO passes (id, holder, person, key, until) VALUES ($1, $2, $3, $4, $5)`, f.Pass, f.Holder, string(s.Person), f.Touch.Key, f.Until.UnixMicro())
	case *ledger.JumpJoined:
		if err := t.spend(f.Invite); err != nil {
			return err
		}
		if err := t.exec(`DELETE FROM revocations WHERE what = 'jump' AND target = $1`, string(f.Jump.Name)); err != nil { // an operator let it join anew
			return err
		}
		return t.exec(`INSERT OR REPLACE INTO jumps (name, idx, jump, number, fact) VALUES ($1, $2, $3, 0, '')`, string(f.Jump.Name), idx, text(f.Jump))
	case *ledger.RequestOpened:
		return t.insertRequest(e, "open", f.Waits, nil)
	case *ledger.RequestDenied:
		if e.Statement == "" { // it waited
			return t.exec(`UPDATE requests SET state = 'denied', denied = $1 WHERE id = $2`, text(f), string(s.Request))
		}
		return t.insertRequest(e, "denied", nil, f)
	case *ledger.ApprovalGiven:
		return t.applyApproval(idx, e, f)
	case *ledger.GrantAllowed:
		if err := t.exec(`UPDATE requests SET state = 'allowed', allowed = $1, allowed_at = $2, until = $3, overridden = $4 WHERE id = $5`,
			text(f), at, f.Until.UnixMicro(), f.Overridden, string(s.Request)); err != nil {
			return err
		}
		return t.applyPlace(at, s.Request, s.Person, f.Rule, f.Used.Addresses, f.Until.UnixMicro())
	case *ledger.GrantExtended:
		return t.applyExtended(e, f)
	case *ledger.CertificateIssued:
		if f.Kind == string(sshcert.Client) { // the one before stays good until its own end
			return t.exec(`UPDATE requests SET earlier = CASE certificate WHEN '' THEN '' ELSE earlier || certificate || $1 END, serial = $2, certificate = $3 WHERE id = $4`,
				"\n", fmt.Sprint(f.Serial), f.Certificate, string(s.Request))
		}
		return t.applySessionCertificate(e, f)
	case *ledger.Revoked:
		return t.applyRevoked(idx, e, f)
	case *ledger.SessionOpened:
		if err := t.exec(`INSERT INTO sessions (id, request, n, idx, hash, person, login, host, jump, peer, opened, until, state, ended, head, envelope, seconds, stored)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'open', 0, '', '', 0, 0)`,
			string(s.Session), string(s.Request), s.Session.N(), idx, ledger.EntryHash(raw).String(), string(s.Person), string(s.Login), string(s.Host), string(s.Jump), f.Peer, at, f.Until.UnixMicro()); err != nil {
			return err
		}
		return t.applyNonce(idx, e)
	case *ledger.SessionRefused:
		return t.applyNonce(idx, e)
	case *ledger.SessionEnded:
		if err := t.exec(`UPDATE sessions SET state = 'ended', ended = $1, head = $2, envelope = $3, seconds = $4 WHERE id = $5`,
			at, text(f.Head), f.Envelope.String(), f.Seconds, string(s.Session)); err != nil {
			return err
		}
		return t.applyFact(e)
	case *ledger.SessionCrashed:
		if err := t.exec(`UPDATE sessions SET state = 'crashed', ended = $1, head = $2, envelope = $3 WHERE id = $4`, at, text(f.Head), f.Envelope.String(), string(s.Session)); err != nil {
			return err
		}
		return t.applyFact(e)
	case *ledger.HostKeyMismatch, *ledger.SessionBlind, *ledger.SessionSighted, *ledger.SessionHead:
		return t.applyFact(e)
	case *ledger.StrangersSummed:
		if e.Statement != "" {
			return t.applyFact(e)
		}
	case *ledger.TranscriptStored:
		return t.exec(`UPDATE sessions SET stored = 1 WHERE id = $1`, string(s.Session))
	case *ledger.SessionWatched:
		return t.exec(`INSERT INTO watches (id, session, person, pass, observer, since) VALUES ($1, $2, $3, $4, $5, $6)`,
			f.Watch, string(s.Session), strings.TrimPrefix(string(e.Actor), string(ledger.PersonActor(""))), f.Pass, f.Observer, at)
	case *ledger.SessionUnwatched:
		return t.exec(`DELETE FROM watches WHERE id = $1`, f.Watch)
	case *ledger.JumpGap:
		return t.exec(`UPDATE jumps SET number = $1, fact = '' WHERE name = $2`, f.Got-1, string(s.Jump))
	}
	return nil
}

func (t *Tx) exec(q string, args ...any) error {
	_, err := t.tx.Exec(q, args...)
	return err
}

// applySignature raises the counter of the hardware key that signed the entry's statement, whatever it was for.
func (t *Tx) applySignature(idx int64, e *ledger.Entry) error {
	if e.SSHSIG == "" {
		return nil
	}
	sig, err := sshsig.Parse([]byte(e.SSHSIG))
	if err != nil {
		return err
	}
	touch, err := sig.Touch()
	if err != nil {
		return nil // a machine's
	}
	k, err := statement.KindOf([]byte(e.Statement))
	if err != nil {
		return err
	}
	st := statement.New(k)
	if st == nil {
		return fmt.Errorf("statement of kind %q", k)
	}
	if err := statement.Parse([]byte(e.Statement), st); err != nil {
		return err
	}
	t.signed = st
	head, _ := statement.HeadOf(st)
	// A counter that is not above the accepted one changes nothing: the entry is a refusal.
	return t.exec(`UPDATE keys SET counter = $1, issued = $2 WHERE fingerprint = $3 AND counter < $4`,
		touch.Counter, head.Issued.Unix(), ssh.FingerprintSHA256(sig.PublicKey), touch.Counter)
}

func (t *Tx) spend(invite statement.Hash) error {
	r, err := t.tx.Exec(`UPDATE invites SET used = 1 WHERE hash = $1 AND used = 0`, invite.String())
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return ErrInviteSpent
	}
	return nil
}

// applyNonce remembers a jump's question, so that it is asked once.
func (t *Tx) applyNonce(idx int64, e *ledger.Entry) error {
	var st statement.Session
	if err := statement.Parse([]byte(e.Statement), &st); err != nil {
		return err
	}
	n, _ := st.Nonce.MarshalText()
	return t.exec(`INSERT INTO nonces (nonce, idx) VALUES ($1, $2)`, string(n), idx)
}

func (t *Tx) applyFact(e *ledger.Entry) error {
	var f statement.Fact
	if err := statement.Parse([]byte(e.Statement), &f); err != nil {
		return err
	}
	return t.exec(`UPDATE jumps SET number = $1, fact = $2 WHERE name = $3`, f.Number, ledger.EntryHash([]byte(e.Statement)).String(), f.Machine)
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own structs of strings and numbers
	}
	return string(b)
}

// Rebuild makes every table anew from the entries.
func (s *State) Rebuild() error {
	tx, err := s.write.Begin()
	if err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	defer tx.Rollback()
	for _, table := range projected {
		if _, err := tx.Exec(`DROP TABLE IF EXISTS ` + table); err != nil {
			return fmt.Errorf("rebuilding: %w", err)
		}
	}
	if _, err := tx.Exec(projection); err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	t := &Tx{tx: tx, s: s, unrostered: true}
	defer s.rosters.Add(1)
	if err := tx.QueryRow(`SELECT COUNT(*) FROM entries`).Scan(&t.size); err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	for idx := range t.size { // not a running query: apply writes on the same connection
		b, err := t.Entry(idx)
		if err != nil {
			return fmt.Errorf("rebuilding: entry %d: %w", idx, err)
		}
		e, err := ledger.Decode(b)
		if err != nil {
			return fmt.Errorf("rebuilding: entry %d: %w", idx, err)
		}
		if err := t.apply(idx, b, e); err != nil {
			return fmt.Errorf("rebuilding: entry %d: %w", idx, err)
		}
	}
	return tx.Commit()
}
