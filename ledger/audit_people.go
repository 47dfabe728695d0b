package ledger

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// human checks the entry's statement and signature and reads the statement into st. own is the key of an enrolment, which signs for itself; else
// the key must have been enrolled by an earlier entry, for the person whom the statement names. accepted is false for acts that were
// refused: those may lack a touch. It gives nil when nothing can be trusted.
func (a *Audit) human(st statement.Statement, own *PersonKey, accepted bool) (*PersonKey, sshsig.Touch) {
	none := sshsig.Touch{}
	if a.e.Statement == "" {
		a.fault(FaultSignature, "nobody signed for it")
		return nil, none
	}
	if err := statement.Parse([]byte(a.e.Statement), st); err != nil {
		a.fault(FaultStatement, "%v", err)
		return nil, none
	}
	key := own
	if key == nil {
		by, err := a.signer()
		if err != nil {
			a.fault(FaultSignature, "%v", err)
			return nil, none
		}
		if key = a.keys[ssh.FingerprintSHA256(by)]; key == nil {
			a.fault(FaultSignature, "by %s, which no earlier entry enrolled", ssh.FingerprintSHA256(by))
			return nil, none
		}
	}
	sig, err := a.signature(key.pub, st.Kind().Namespace())
	if err != nil {
		a.fault(FaultSignature, "%v", err)
		return nil, none
	}
	t, err := sig.Touch()
	if err != nil {
		a.fault(FaultTouch, "%v", err)
		return nil, none
	}
	c, _ := statement.HeadOf(st)
	if c.Person != key.Person {
		a.fault(FaultSignature, "statement of %s, key of %s", c.Person, key.Person)
	}
	if c.Person != a.e.Subject.Person {
		a.fault(FaultStatement, "signed by %s, the entry is about %q", c.Person, a.e.Subject.Person)
	}
	if c.Origin != a.site.Origin || c.Epoch != a.site.Epoch {
		a.fault(FaultStatement, "for origin %q epoch %d", c.Origin, c.Epoch)
	}
	if accepted {
		if !t.UserPresent() {
			a.fault(FaultTouch, "the key was not touched")
		}
		if key.revoked {
			a.fault(FaultRevoked, "by %s's %s, which was revoked", key.Person, key.Name)
		}
		if own == nil {
			a.mayCount(key, st.Kind())
		}
		if key.suspended {
			a.fault(FaultSignature, "by %s's %s, which is suspended", key.Person, key.Name)
		}
		if own == nil && t.Counter <= key.counter {
			a.fault(FaultTouch, "counter %d, accepted before was %d", t.Counter, key.counter)
		}
		key.counter = t.Counter
		if at := a.e.Time.Time; at.Before(c.Issued) || at.After(c.Expires.Add(lateness)) {
			a.fault(FaultStatement, "dated outside of %s to %s", c.Issued.Format(time.RFC3339), c.Expires.Format(time.RFC3339))
		}
		if i, ok := a.spent[c.Nonce]; ok {
			a.fault(FaultReplay, "the statement of entry %d again", i)
		}
		a.spent[c.Nonce] = a.index
	}
	if a.cfg.History != nil {
		if err := a.cfg.History(c.Checkpoint, a.index); err != nil {
			a.fault(FaultHistory, "the signer saw another history: %v", err)
		}
	}
	return key, t
}

// sameTouch holds what the entry says of a touch against the signature.
func (a *Audit) sameTouch(key *PersonKey, t sshsig.Touch, f Touch) {
	if f != (Touch{key.Fingerprint, t.Flags, t.Counter}) {
		a.fault(FaultTouch, "the entry says %v, the signature %v", f, Touch{key.Fingerprint, t.Flags, t.Counter})
	}
}

func (a *Audit) keyEnrolled(f *KeyEnrolled) {
	pub, err := parseKey(f.PublicKey)
	if err != nil {
		a.fault(FaultSignature, "public key: %v", err)
		return
	}
	k := &PersonKey{Person: a.e.Subject.Person, Name: f.Name, Fingerprint: ssh.FingerprintSHA256(pub), Index: a.index, Software: f.Software, pub: pub}
	var st statement.Enrolment
	got, t := a.human(&st, k, true)
	if got == nil {
		return
	}
	if app, err := sshsig.Application(pub); err != nil || app != f.Application {
		a.fault(FaultStatement, "application %q, the key's is %q", f.Application, app)
	}
	if st.Key != f.Name || strings.TrimSpace(st.PublicKey) != strings.TrimSpace(f.PublicKey) || st.Invite != f.Invite ||
		st.Credential != sha256.Sum256(f.CredentialID) || a.e.Subject.Key != k.Fingerprint {
		a.fault(FaultStatement, "the signed enrolment is of another key, credential or invite")
	}
	if (f.Attestation == nil) != (st.Attestation == statement.Hash{}) || f.Attestation != nil && st.Attestation != sha256.Sum256(f.Attestation.AuthData) {
		a.fault(FaultStatement, "the signed enrolment names another attestation")
	}
	if t.Flags != f.Flags || t.Counter != f.Counter {
		a.fault(FaultTouch, "the entry says flags %#x counter %d, the signature %#x and %d", f.Flags, f.Counter, t.Flags, t.Counter)
	}
	a.attested(f, k)
	if _, ok := a.keys[k.Fingerprint]; ok {
		a.fault(FaultReplay, "key %s is enrolled already", k.Fingerprint)
		return
	}
	if inv := a.invites[f.Invite]; !a.cfg.Part && f.Invite != (statement.Hash{}) && (inv == nil || inv.For != "person" || inv.Name != string(k.Person)) {
		a.fault(FaultStatement, "no invite of %s has that hash", k.Person)
	}
	a.enrolled(k, &st, f)
	a.keys[k.Fingerprint] = k
}

func (a *Audit) keySuspended(f *KeySuspended) {
	k := a.keys[a.e.Subject.Key]
	if k == nil {
		if !a.cfg.Part {
			a.fault(FaultOrder, "suspends %q, which no earlier entry enrolled", a.e.Subject.Key)
		}
		return
	}
	k.suspended, k.suspension, k.seen = true, EntryHash(a.raw), f.Seen
}

func (a *Audit) passGranted(f *PassGranted) {
	var st statement.Pass
	key, t := a.human(&st, nil, true)
	if key == nil {
		return
	}
	a.sameTouch(key, t, f.Touch)
	if st.ID != f.Pass || strings.TrimSpace(st.Holder) != strings.TrimSpace(f.Holder) || f.Until.After(st.Until) || !slices.Equal(st.Sources, f.Sources) {
		a.fault(FaultStatement, "another pass was signed for")
		return
	}
	a.passes[f.Pass] = pass{key.Person, f.Until.Time, f.Holder}
}

func (a *Audit) requestOpened(f *RequestOpened) {
	g := &Grant{RequestIndex: a.index}
	if g.Key, g.Touch = a.human(&g.Request, nil, true); g.Key == nil {
		return
	}
	a.sameTouch(g.Key, g.Touch, f.Touch)
	a.sameRequest(&g.Request)
	if a.grants[g.Request.ID] != nil {
		a.fault(FaultReplay, "request %s is there already", g.Request.ID)
		return
	}
	g.Signed = statement.SignedHash(a.e.Statement, a.e.SSHSIG)
	a.opened(g, f)
	a.grants[g.Request.ID] = g
}

// sameRequest holds the entry's subject against what was signed.
func (a *Audit) sameRequest(r *statement.Request) {
	s := a.e.Subject
	if s.Request != r.ID || s.Person != r.Person || s.Host != r.Host || s.Login != r.Login {
		a.fault(FaultStatement, "signed for %s by %s as %s on %s, the entry is about %s by %s as %s on %s",
			r.ID, r.Person, r.Login, r.Host, s.Request, s.Person, s.Login, s.Host)
	}
}

func (a *Audit) requestDenied(f *RequestDenied) {
	a.noteRefusal()
	if len(f.Reasons) == 0 {
		a.fault(FaultGrant, "denied without a reason")
	}
	g := a.grants[a.e.Subject.Request]
	switch {
	case g == nil && a.e.Statement != "": // refused at once: this entry holds the statement
		g = &Grant{RequestIndex: a.index}
		if g.Key, g.Touch = a.human(&g.Request, nil, false); g.Key == nil {
			return
		}
		a.sameRequest(&g.Request)
		a.sameTouch(g.Key, g.Touch, f.Used.Touch)
		a.grants[g.Request.ID] = g
	case g == nil:
		a.fault(FaultOrder, "request %q was not opened", a.e.Subject.Request)
	case a.e.Statement != "":
		a.fault(FaultReplay, "request %s is there already", a.e.Subject.Request)
	}
	if g != nil {
		if g.Allowed != nil || g.Extended != nil {
			a.fault(FaultGrant, "denied after it was allowed")
		}
		g.Denied = f
	}
}

// actDenied holds a refused act against its signature; it changes nothing.
func (a *Audit) actDenied(f *ActDenied) {
	a.noteRefusal()
	if len(f.Reasons) == 0 {
		a.fault(FaultStatement, "denied without a reason")
	}
	kind, err := statement.KindOf([]byte(a.e.Statement))
	st := statement.New(kind)
	if err != nil || st == nil {
		a.fault(FaultStatement, "statement of no known kind")
		return
	}
	if key, t := a.human(st, nil, false); key != nil {
		a.sameTouch(key, t, f.Touch)
	}
}

func (a *Audit) grantAllowed(f *GrantAllowed) {
	g := a.grants[a.e.Subject.Request]
	if g == nil {
		a.fault(FaultGrant, "request %q was not opened", a.e.Subject.Request)
		return
	}
	r := &g.Request
	a.sameRequest(r)
	a.knownPolicy(f.Used.Policy)
	a.counted(g, &f.Used, f.Approvals, f.Overridden)
	switch {
	case g.decided():
		a.fault(FaultGrant, "request %s was decided before", r.ID)
		return
	case r.Request != statement.RequestNew:
		a.fault(FaultGrant, "a request of kind %q opens no grant", r.Request)
		return
	case g.Waits != nil && a.e.Time.After(g.Waits.Until.Add(lateness)):
		a.fault(FaultGrant, "request %s waited until %s", r.ID, g.Waits.Until.Format(time.RFC3339))
	case f.Rule == "":
		a.fault(FaultGrant, "allowed by no rule")
	case r.Minutes > 0 && f.Minutes > r.Minutes:
		a.fault(FaultGrant, "%d minutes, %d were asked for", f.Minutes, r.Minutes)
	case f.Until.After(a.e.Time.Add(time.Duration(f.Minutes)*time.Minute + lateness)):
		a.fault(FaultGrant, "until %s, longer than its %d minutes", f.Until.Format(time.RFC3339), f.Minutes)
	}
	for _, w := range f.Forwards {
		if !slices.Contains(r.Forwards, w) { // what isn't in the statement can't widen the decision
			a.fault(FaultGrant, "forward %q was not asked for", w)
		}
	}
	g.Allowed, g.AllowedIndex, g.Policy, g.Until = f, a.index, a.policies[f.Used.Policy], f.Until.Time
}
