package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Request is a signed request and what came of it.
type Request struct {
	ID        name.RequestID
	State     string         // "open", "denied", "allowed"
	Kind      string         // statement.RequestNew, RequestExtend; of a refused one also RequestOverride
	Of        name.RequestID // the grant that an extension is of
	Person    name.Person
	Login     name.Login
	Host      name.Host
	Reason    string
	ClientKey string // fingerprint
	Key       string // fingerprint of the hardware key that signed it
	Statement string
	Signed    statement.Hash // names statement and signature: what approvals are given to
	Opened    time.Time
	Waits     *ledger.Waits // nil: decided at once
	Denied    *ledger.RequestDenied
	// Allowed is the decision that the grant stands on now: the last extension's, if there was one.
	Allowed     *ledger.GrantAllowed
	AllowedAt   time.Time // when its minutes began
	Until       time.Time // the grant's end, as far as it has been extended
	Serial      string
	Certificate string
	earlier     string
	Overridden  int // approvals that an override replaced, also once an extension was approved in full
}

// Waiting says whether the request still waits for approvals.
func (r *Request) Waiting(now time.Time) bool {
	return r.State == "open" && r.Waits != nil && now.Before(r.Waits.Until.Time)
}

// Alive says whether it is a grant that has not ended.
func (r *Request) Alive(now time.Time) bool {
	return r.State == "allowed" && r.Allowed != nil && now.Before(r.Until)
}

// Issued says whether the client certificate (authorized_keys form) is one that an entry holds: the newest, or one that an extension replaced.
func (r *Request) Issued(certificate string) bool {
	return certificate != "" && (certificate == r.Certificate || slices.Contains(strings.Split(r.earlier, "\n"), certificate))
}

const requestColumns = `SELECT id, state, kind, of, person, login, host, reason, client_key, key, statement, signed, opened, waits, denied, allowed, allowed_at, until, serial, certificate, earlier, overridden FROM requests `

func scanRequest(row scanner) (r Request, err error) {
	var signed, waits, denied, allowed string
	var opened, at, until int64
	if err = notFound(row.Scan(&r.ID, &r.State, &r.Kind, &r.Of, &r.Person, &r.Login, &r.Host, &r.Reason, &r.ClientKey, &r.Key, &r.Statement, &signed, &opened, &waits,
		&denied, &allowed, &at, &until, &r.Serial, &r.Certificate, &r.earlier, &r.Overridden)); err != nil {
		return r, err
	}
	r.Opened, r.AllowedAt, r.Until = time.UnixMicro(opened), time.UnixMicro(at), time.UnixMicro(until)
	err = r.Signed.UnmarshalText([]byte(signed))
	if waits != "" {
		err = errors.Join(err, json.Unmarshal([]byte(waits), &r.Waits))
	}
	if denied != "" {
		err = errors.Join(err, json.Unmarshal([]byte(denied), &r.Denied))
	}
	if allowed != "" {
		err = errors.Join(err, json.Unmarshal([]byte(allowed), &r.Allowed))
	}
	return r, err
}

// Request finds a request.
func (t *Tx) Request(id name.RequestID) (Request, error) {
	return scanRequest(t.tx.QueryRow(requestColumns+`WHERE id = $1`, string(id)))
}

// Taken says of the two things that a new request may not have: whether the client key (authorized_keys form) holds a pass, and whether there is a
// request of that id. One question of one table each, so no transaction is needed around them.
func (s *State) Taken(ctx context.Context, holder string, id name.RequestID) (held, taken bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM passes WHERE holder = $1), EXISTS (SELECT 1 FROM requests WHERE id = $2)`, holder, string(id)).Scan(&held, &taken)
	if err != nil {
		err = fmt.Errorf("reading state: %w", err)
	}
	return held, taken, err
}

// Waiting lists the requests that wait for approvals, oldest first.
func (t *Tx) Waiting(now time.Time, limit int) ([]Request, error) {
	return t.requests(requestColumns+`WHERE state = 'open' AND wait_until > 0 AND wait_until > $1 ORDER BY opened LIMIT $2`, now.UnixMicro(), limit)
}

// RequestsOf lists what was asked about a grant, under ids of their own: extensions, and overrides that were refused.
func (t *Tx) RequestsOf(id name.RequestID) ([]Request, error) {
	return t.requests(requestColumns+`WHERE of = $1 AND of <> '' ORDER BY opened`, string(id))
}

func (t *Tx) requests(query string, args ...any) ([]Request, error) {
	rows, err := t.tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Request
	for rows.Next() {
		r, err := scanRequest(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Approval is what a person last said to a request, an enrolment or a suspended key.
type Approval struct {
	Person  name.Person
	Index   int64 // of the entry
	Key     string
	Verdict string // statement.Approve, statement.Deny
	Comment string
	Given   time.Time
	Until   time.Time // it counts no longer
	Grace   bool      // the approver's enrolment had lapsed, a short while ago
}

// Approvals lists what people said to a thing, in order; each person once.
func (t *Tx) Approvals(about, of string) ([]Approval, error) {
	rows, err := t.tx.Query(`SELECT person, idx, key, verdict, comment, given, until, grace FROM approvals WHERE about = $1 AND of = $2 ORDER BY idx`, about, of)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Approval
	for rows.Next() {
		var a Approval
		var given, until int64
		if err := rows.Scan(&a.Person, &a.Index, &a.Key, &a.Verdict, &a.Comment, &given, &until, &a.Grace); err != nil {
			return nil, err
		}
		a.Given, a.Until = time.UnixMicro(given), time.UnixMicro(until)
		out = append(out, a)
	}
	return out, rows.Err()
}

// insertRequest is what request.opened and request.denied do.
func (t *Tx) insertRequest(e *ledger.Entry, state string, waits *ledger.Waits, denied *ledger.RequestDenied) error {
	r, ok := t.signed.(*statement.Request)
	if !ok {
		return fmt.Errorf("a %s that no person signed", e.Type())
	}
	var w, d string
	var until int64
	if waits != nil {
		w, until = text(waits), waits.Until.UnixMicro()
	}
	if denied != nil {
		d = text(denied)
	}
	return t.exec(`INSERT INTO requests (id, state, kind, of, person, login, host, reason, client_key, key, statement, signed, opened, waits, wait_until, denied, allowed, allowed_at, until, serial, certificate, earlier, overridden)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, '', 0, 0, '', '', '', 0)`,
		string(r.ID), state, r.Request, string(r.Of), string(r.Person), string(r.Login), string(r.Host), r.Reason, r.ClientKey, e.Subject.Key, e.Statement,
		statement.SignedHash(e.Statement, e.SSHSIG).String(), e.Time.UnixMicro(), w, until, d)
}

func (t *Tx) applyApproval(idx int64, e *ledger.Entry, f *ledger.ApprovalGiven) error {
	return t.exec(`INSERT OR REPLACE INTO approvals (about, of, person, idx, key, verdict, comment, given, until, grace) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		f.About, f.Of, string(e.Subject.Person), idx, f.Touch.Key, f.Verdict, f.Comment, e.Time.UnixMicro(), f.Until.UnixMicro(), f.Key != "live")
}

// applyExtended moves the grant's end: from here on it stands on the extension's decision. What it may do beyond (forwards, idle limit) stays
// as it was granted.
func (t *Tx) applyExtended(e *ledger.Entry, f *ledger.GrantExtended) error {
	g, err := t.Request(e.Subject.Request)
	if err != nil {
		return err
	}
	a := *g.Allowed
	a.Rule, a.Why, a.Minutes, a.Until, a.Used, a.Approvals, a.Overridden = f.Rule, f.Why, f.Minutes, f.Until, f.Used, f.Approvals, f.Overridden
	if err := t.exec(`UPDATE requests SET allowed = $1, allowed_at = $2, until = $3, overridden = overridden + $4 WHERE id = $5`,
		text(a), e.Time.UnixMicro(), f.Until.UnixMicro(), f.Overridden, string(g.ID)); err != nil {
		return err
	}
	if err := t.applyPlace(e.Time.UnixMicro(), g.ID, g.Person, f.Rule, f.Used.Addresses, f.Until.UnixMicro()); err != nil {
		return err
	}
	return t.exec(`UPDATE requests SET state = 'allowed', allowed_at = $1 WHERE id = $2`, e.Time.UnixMicro(), string(f.Request))
}
