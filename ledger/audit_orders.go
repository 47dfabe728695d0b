package ledger

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// This file holds operators' orders against who signed them, and everything after a revocation against that: that it was this person's touch
// for exactly this act, and that the policy in force calls them an operator.

// inviteLasts is how long a token may be good.
const inviteLasts = 24 * time.Hour

// order checks that the entry carries an operator's order of the act about the target.
func (a *Audit) order(act, target string) *statement.Order {
	var st statement.Order
	if key, _ := a.human(&st, nil, true); key == nil {
		return nil
	}
	if a.e.Actor != PersonActor(st.Person) {
		a.fault(FaultStatement, "ordered by %s, the entry is by %s", st.Person, a.e.Actor)
	}
	if t := a.terms(); !a.cfg.Part && !slices.Contains(t.named(t.Site.Operators), st.Person) { // a part may have the policy of then left out
		a.fault(FaultKey, "ordered by %s, who is no operator of the policy in force", st.Person)
	}
	if st.Act != act || st.Target != target {
		a.fault(FaultStatement, "ordered was %s of %q, the entry says %s of %q", st.Act, st.Target, act, target)
		return nil
	}
	return &st
}

func (a *Audit) inviteCreated(f *InviteCreated) {
	if a.e.Statement == "" {
		// Local root's word is enough only until people's keys can be asked.
		if a.founded && a.site.Profile != "demo" {
			a.fault(FaultSignature, "an invite after the founding that no operator signed for")
		}
	} else if st := a.order("invite-"+f.For, f.Name); st != nil {
		if st.Detail != f.Invite {
			a.fault(FaultStatement, "an invite of another secret was ordered")
		}
		if f.Expires.After(a.e.Time.Add(inviteLasts + lateness)) {
			a.fault(FaultStatement, "good until %s, longer than %v", f.Expires.Format(time.RFC3339), inviteLasts)
		}
	}
	if a.invites[f.Invite] != nil {
		a.fault(FaultReplay, "an invite with that hash is there already")
		return
	}
	a.invites[f.Invite] = f
}

// revocation names something that was revoked.
type revocation struct{ what, target string }

func (a *Audit) revoked(f *Revoked) {
	switch f.How {
	case RevokedByOrder:
		if st := a.order("revoke-"+f.What, f.Target); st != nil && st.Reason != f.Why {
			a.fault(FaultStatement, "the order gives another reason")
		}
	case RevokedByLoss:
		a.keyLost(f)
	case RevokedByKill, RevokedByEnd:
		a.stopped(f)
	default:
		a.fault(FaultStatement, "revoked by %q", f.How)
	}
	a.revocations[revocation{f.What, f.Target}] = a.index
	switch f.What {
	case RevokedCertificate:
		if n, err := strconv.ParseUint(f.Target, 10, 64); err != nil || strconv.FormatUint(n, 10) != f.Target {
			a.fault(FaultMalformed, "serial %q", f.Target)
		}
	case RevokedGrant:
		g := a.grants[name.RequestID(f.Target)]
		if g == nil {
			if !a.cfg.Part {
				a.fault(FaultGrant, "revokes %q, which was not opened", f.Target)
			}
			return
		}
		if f.Until == nil || g.Allowed != nil && f.Until.Before(g.Until.Truncate(time.Microsecond)) {
			a.fault(FaultGrant, "stops mattering before %s ends", f.Target)
		}
	case RevokedSession:
		if a.sessions[name.SessionID(f.Target)] == nil && !a.cfg.Part {
			a.fault(FaultSession, "revokes %q, which was not opened", f.Target)
		}
	case RevokedKey:
		k := a.keys[f.Target]
		if k == nil {
			if !a.cfg.Part {
				a.fault(FaultOrder, "revokes %q, which no earlier entry enrolled", f.Target)
			}
			return
		}
		k.revoked = true
	case RevokedPerson:
		a.revokedPerson(name.Person(f.Target))
	case RevokedJump:
		m := a.jumps[name.Jump(f.Target)]
		if m == nil {
			if !a.cfg.Part {
				a.fault(FaultOrder, "revokes jump %q, which did not join", f.Target)
			}
			return
		}
		m.revoked = true
		a.forgetInvites("jump", f.Target)
	default:
		a.fault(FaultMalformed, "revokes a %q", f.What)
	}
}

// revokedPerson ends all that is theirs: keys, passes, grants, invites, recipients, what makes their codes.
func (a *Audit) revokedPerson(p name.Person) {
	for _, k := range a.keys {
		if k.Person == p {
			k.revoked = true
		}
	}
	for id, x := range a.passes {
		if x.person == p && x.until.After(a.e.Time.Time) {
			x.until = a.e.Time.Time
			a.passes[id] = x
		}
	}
	for age, of := range a.recipients {
		if of == p {
			delete(a.recipients, age)
		}
	}
	delete(a.totp, p)
	a.forgetInvites("person", string(p))
}

func (a *Audit) forgetInvites(kind, who string) {
	for h, i := range a.invites {
		if i.For == kind && i.Name == who {
			delete(a.invites, h)
		}
	}
}

// stopped checks the signed call by which somebody killed or ended a grant or a session.
func (a *Audit) stopped(f *Revoked) {
	var call statement.Call
	if err := statement.Parse([]byte(a.e.Statement), &call); err != nil {
		a.fault(FaultStatement, "%v", err)
		return
	}
	by, err := a.signer()
	if err == nil {
		_, err = a.signature(by, call.Kind().Namespace())
	}
	if err != nil {
		a.fault(FaultSignature, "%v", err)
		return
	}
	var asked struct {
		Why     string         `json:"why"`
		Session name.SessionID `json:"session"`
	}
	request := name.RequestID(f.Target)
	if f.What == RevokedSession {
		request = name.SessionID(f.Target).Request()
	}
	switch {
	case call.Origin != a.site.Origin:
		a.fault(FaultStatement, "for origin %q", call.Origin)
	case f.What != RevokedGrant && f.What != RevokedSession:
		a.fault(FaultStatement, "a %s of a %s", f.How, f.What)
	case call.Method != "POST" || call.Path != "/v1/requests/"+string(request)+"/"+f.How:
		a.fault(FaultStatement, "the signed call is %s %s", call.Method, call.Path)
	case call.Body != sha256.Sum256([]byte(f.Asked)):
		a.fault(FaultStatement, "another body was signed")
	case json.Unmarshal([]byte(f.Asked), &asked) != nil || asked.Why != f.Why:
		a.fault(FaultStatement, "the signed call gives another reason")
	case f.What == RevokedSession && string(asked.Session) != f.Target || f.What == RevokedGrant && asked.Session != "":
		a.fault(FaultStatement, "the signed call names session %q", asked.Session)
	}
	if i, ok := a.spent[call.Nonce]; ok {
		a.fault(FaultReplay, "the call of entry %d again", i)
	}
	a.spent[call.Nonce] = a.index
	a.mayStop(f, request, by)
}

// mayStop says whose key it was: a pass's that lasts, or the grant's own client key.
func (a *Audit) mayStop(f *Revoked, request name.RequestID, key ssh.PublicKey) {
	g := a.grants[request]
	if f.Pass == "" {
		if f.How != RevokedByEnd || g != nil && ssh.FingerprintSHA256(key) != g.Request.ClientKey || g == nil && !a.cfg.Part {
			a.fault(FaultSignature, "by a key that is neither a pass's nor the grant's")
		}
		return
	}
	p, ok := a.passes[f.Pass]
	holder, err := parseKey(strings.TrimSpace(p.holder))
	switch {
	case !ok && a.cfg.Part: // a pass is its holder's
	case !ok:
		a.fault(FaultPass, "under pass %q, which was not granted", f.Pass)
	case err != nil || !sameKey(holder, key):
		a.fault(FaultPass, "by a key that is not the pass's")
	case !a.e.Time.Before(p.until):
		a.fault(FaultPass, "after the pass of %s ended", p.person)
	case a.e.Actor != PersonActor(p.person) || a.e.Subject.Person != p.person:
		a.fault(FaultPass, "by %s under the pass of %s", a.e.Actor, p.person)
	case f.How == RevokedByEnd && g != nil && g.Request.Person != p.person:
		a.fault(FaultGrant, "%s ends a grant of %s", p.person, g.Request.Person)
	}
}

// standsOn demands that a session names the keys that its grant stands on, by which a jump knows what ends it, and that neither's key was revoked.
func (a *Audit) standsOn(g *Grant, f *SessionOpened) {
	last := g.Allowed.Used.Touch
	if n := len(g.Extensions); n > 0 {
		last = g.Extensions[n-1].Extended.Used.Touch
	}
	opener := ""
	if g.Key != nil && g.Key.Fingerprint != last.Key {
		opener = g.Key.Fingerprint
	}
	if f.Used.Touch.Key != last.Key || f.Opener != opener {
		a.fault(FaultSession, "stands on the touch of %q, and the grant on that of %q", f.Keys(), last.Key)
	}
	if k := a.keys[last.Key]; k != nil && k.revoked {
		a.fault(FaultRevoked, "%s's %s, on whose touch it stands, was revoked", k.Person, k.Name)
	}
}

// standing demands that a grant, the key that opened it, or its certificate was not revoked before.
func (a *Audit) standing(g *Grant, serial uint64) {
	r := &g.Request
	for _, v := range []revocation{{RevokedGrant, string(r.ID)}, {RevokedCertificate, strconv.FormatUint(serial, 10)}} {
		if i, ok := a.revocations[v]; ok {
			a.fault(FaultRevoked, "%s %s was revoked by entry %d", v.what, v.target, i)
		}
	}
	if g.Key != nil && g.Key.revoked {
		a.fault(FaultRevoked, "%s's %s, which opened it, was revoked", g.Key.Person, g.Key.Name)
	}
}
