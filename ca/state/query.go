package state

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// ErrInviteSpent says that an invite is unknown or was used.
var ErrInviteSpent = errors.New("invite is unknown or used")

// Site is the site as of now.
type Site struct {
	Site        ledger.Site
	Index       int64 // of the entry that says so
	PolicyIndex int64
	Policy      string // SHA-256, hex
	Founded     bool
}

func (t *Tx) Site() (s Site, err error) {
	if r := t.rosterNow(); r != nil {
		s = r.Site
		s.Site.Jumps = slices.Clone(s.Site.Jumps) // a join changes them
		return s, nil
	}
	var site string
	err = notFound(t.tx.QueryRow(`SELECT idx, site, policy_idx, policy, founded FROM facts_of_site`).Scan(&s.Index, &site, &s.PolicyIndex, &s.Policy, &s.Founded))
	if err == nil {
		s.Site, err = t.s.parsed.parse(site)
	}
	return s, err
}

// Invite is a one-time token's row.
type Invite struct {
	For, Name string
	Expires   time.Time
	Used      bool
}

func (t *Tx) Invite(h statement.Hash) (i Invite, err error) {
	var us int64
	err = notFound(t.tx.QueryRow(`SELECT kind, name, expires, used FROM invites WHERE hash = $1`, h.String()).Scan(&i.For, &i.Name, &us, &i.Used))
	i.Expires = time.UnixMicro(us)
	return i, err
}

// Pass is a reading pass.
type Pass struct {
	ID     string
	Person name.Person
	Key    string // fingerprint of the hardware key that signed it
	Until  time.Time
}

// PassOf finds the pass whose holder is the key (authorized_keys form).
func (t *Tx) PassOf(holder string) (p Pass, err error) {
	var us int64
	err = notFound(t.tx.QueryRow(`SELECT id, person, key, until FROM passes WHERE holder = $1`, holder).Scan(&p.ID, &p.Person, &p.Key, &us))
	p.Until = time.UnixMicro(us)
	return p, err
}

// Jump is a joined jump and how far its facts have come.
type Jump struct {
	Index  int64
	Jump   ledger.SiteJump
	Number int64
	Hash   statement.Hash
}

func (t *Tx) Jump(n name.Jump) (Jump, error) {
	return scanJump(t.tx.QueryRow(`SELECT idx, jump, number, fact FROM jumps WHERE name = $1`, string(n)))
}

func scanJump(r scanner) (j Jump, err error) {
	var jump, fact string
	if err := notFound(r.Scan(&j.Index, &jump, &j.Number, &fact)); err != nil {
		return j, err
	}
	if err := json.Unmarshal([]byte(jump), &j.Jump); err != nil {
		return j, err
	}
	return j, j.Hash.UnmarshalText([]byte(fact))
}

// Jumps lists the jumps.
func (t *Tx) Jumps() ([]Jump, error) {
	rows, err := t.tx.Query(`SELECT idx, jump, number, fact FROM jumps ORDER BY name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Jump
	for rows.Next() {
		j, err := scanJump(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, rows.Err()
}

// HasLiveGrant says whether a grant that is alive at now, and not revoked, names the host.
func (t *Tx) HasLiveGrant(h name.Host, now time.Time) (bool, error) {
	var n int
	err := t.tx.QueryRow(`SELECT COUNT(*) FROM requests WHERE host = $1 AND until > 0 AND until > $2 AND state = 'allowed'
		AND NOT EXISTS (SELECT 1 FROM revocations WHERE what = 'grant' AND target = id)`, string(h), now.UnixMicro()).Scan(&n)
	return n > 0, err
}

// IsClientKey says whether some request was for the key with that fingerprint.
func (t *Tx) IsClientKey(fingerprint string) (bool, error) {
	var n int
	err := t.tx.QueryRow(`SELECT COUNT(*) FROM requests WHERE client_key = $1`, fingerprint).Scan(&n)
	return n > 0, err
}

// IsHolder says whether a pass was given to the key (authorized_keys form).
func (t *Tx) IsHolder(key string) (bool, error) {
	_, err := t.PassOf(key)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Session is one session's row.
type Session struct {
	ID       name.SessionID
	Request  name.RequestID
	Index    int64
	Hash     statement.Hash // of the session.opened entry
	Person   name.Person
	Login    name.Login
	Host     name.Host
	Jump     name.Jump
	Peer     string
	Reason   string
	Opened   time.Time
	Until    time.Time
	State    string
	Ended    time.Time // zero while open
	Head     *ledger.Head
	Envelope statement.Hash
	Seconds  int
	Stored   bool
	// Overridden says that its grant went on without approvals that were missing.
	Overridden bool
}

const sessionColumns = `SELECT s.id, s.request, s.idx, s.hash, s.person, s.login, s.host, s.jump, s.peer, r.reason, s.opened, s.until, s.state, s.ended, s.head, s.envelope, s.seconds, s.stored, r.overridden > 0
	FROM sessions s JOIN requests r ON r.id = s.request `

func scanSession(r scanner) (s Session, err error) {
	var opened, until, ended int64
	var hash, head, envelope string
	if err := notFound(r.Scan(&s.ID, &s.Request, &s.Index, &hash, &s.Person, &s.Login, &s.Host, &s.Jump, &s.Peer, &s.Reason, &opened, &until, &s.State, &ended, &head, &envelope, &s.Seconds, &s.Stored, &s.Overridden)); err != nil {
		return s, err
	}
	s.Opened, s.Until = time.UnixMicro(opened), time.UnixMicro(until)
	if ended != 0 {
		s.Ended = time.UnixMicro(ended)
	}
	if head != "" {
		err = json.Unmarshal([]byte(head), &s.Head)
	}
	return s, errors.Join(err, s.Hash.UnmarshalText([]byte(hash)), s.Envelope.UnmarshalText([]byte(envelope)))
}

func (t *Tx) Session(id name.SessionID) (Session, error) {
	return scanSession(t.tx.QueryRow(sessionColumns+`WHERE s.id = $1`, string(id)))
}

// NextSession is the number that a request's next session gets.
func (t *Tx) NextSession(id name.RequestID) (n int, err error) {
	err = t.tx.QueryRow(`SELECT COALESCE(MAX(n), 0) + 1 FROM sessions WHERE request = $1`, string(id)).Scan(&n)
	return n, err
}

// Sessions lists sessions, newest first: all (at most limit), or those of one request.
func (t *Tx) Sessions(request name.RequestID, limit int) ([]Session, error) {
	rows, err := t.tx.Query(sessionColumns+`WHERE $1 = '' OR s.request = $1 ORDER BY s.idx DESC LIMIT $2`, string(request), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Session
	for rows.Next() {
		s, err := scanSession(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// NonceUsed says whether a jump's question was asked before.
func (t *Tx) NonceUsed(n statement.Nonce) (bool, error) {
	b, _ := n.MarshalText()
	var c int
	err := t.tx.QueryRow(`SELECT COUNT(*) FROM nonces WHERE nonce = $1`, string(b)).Scan(&c)
	return c > 0, err
}
