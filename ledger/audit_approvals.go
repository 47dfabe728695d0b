package ledger

import (
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// This file holds against the signatures what opens a grant beside the requester's own touch: other people's approvals, or the requester's second
// touch that goes on without them; and what moves its end. How many approvals a rule wants is the policy's; the entry says the number, and who
// gave them must have signed for exactly that request.

// Approval is a person's yes or no to a request.
type Approval struct {
	ApprovalGiven
	Index int64
	Key   *PersonKey
	Seen  statement.Checkpoint // the history that the approver's signature pins
}

// Overridden is the requester's second touch.
type Overridden struct {
	RequestOverridden
	Index   int64
	Request statement.Request
	Key     *PersonKey
	Touched sshsig.Touch
}

// decided says that nothing can come of the request any more.
func (g *Grant) decided() bool { return g.Allowed != nil || g.Denied != nil || g.Extended != nil }

// sameAsk says whether two requests ask for the same thing with the same client key. An extension may say other minutes, and why.
func sameAsk(x, y *statement.Request) bool {
	return x.Person == y.Person && x.Login == y.Login && x.Host == y.Host && x.ClientKey == y.ClientKey && x.Drill == y.Drill && slices.Equal(x.Forwards, y.Forwards)
}

// opened judges what a request says beyond its signature: which grant it extends, and what it waits for.
func (a *Audit) opened(g *Grant, f *RequestOpened) {
	r := &g.Request
	switch r.Request {
	case statement.RequestNew:
		if r.Of != "" {
			a.fault(FaultStatement, "a new request of %s", r.Of)
		}
	case statement.RequestExtend:
		of := a.grants[r.Of]
		switch {
		case of == nil || of.Allowed == nil:
			a.fault(FaultGrant, "extends %q, which was not granted", r.Of)
		case !sameAsk(r, &of.Request):
			a.fault(FaultGrant, "extends %s, and asks for something else", r.Of)
		case !a.e.Time.Before(of.Until):
			a.fault(FaultGrant, "extends %s after its end", r.Of)
		}
	default:
		a.fault(FaultStatement, "a request of kind %q was opened", r.Request)
	}
	w := f.Waits
	if w == nil {
		return
	}
	g.Waits = w
	a.knownPolicy(w.Used.Policy)
	a.sameTouch(g.Key, g.Touch, w.Used.Touch)
	if k, err := parseKey(w.ClientKey); err != nil || ssh.FingerprintSHA256(k) != r.ClientKey {
		a.fault(FaultStatement, "waits with another client key than was signed for")
	}
	if w.Rule == "" || w.Approvals < 1 || !w.Until.After(a.e.Time.Time) {
		a.fault(FaultGrant, "waits for nothing, or for no time")
	}
	if slices.Contains(w.Approvers, r.Person) {
		a.fault(FaultGrant, "asks the requester for approval")
	}
}

// approvalGiven holds an approval against its signature, and against the request that it is about.
func (a *Audit) approvalGiven(f *ApprovalGiven) {
	var st statement.Approval
	key, t := a.human(&st, nil, true)
	if key == nil {
		return
	}
	a.sameTouch(key, t, f.Touch)
	if st.About != f.About || st.Of != f.Of || st.Hash != f.Hash || st.Verdict != f.Verdict || st.Comment != f.Comment || !st.Until.Equal(f.Until.Time) {
		a.fault(FaultStatement, "another approval was signed")
		return
	}
	if d := statement.CountsFor(f.About); f.Until.After(st.Issued.Add(d)) {
		a.fault(FaultStatement, "counts for longer than %s", d)
	}
	if f.Verdict != statement.Approve && f.Verdict != statement.Deny {
		a.fault(FaultStatement, "verdict %q", f.Verdict)
	}
	if f.About != statement.AboutEnrolment && key.countsFrom.IsZero() {
		a.fault(FaultKey, "by %s's %s, which was renewed too late", key.Person, key.Name)
	}
	if f.About != statement.AboutRequest {
		a.noteApproval(f)
		return // of enrolments and keys: the entries that stand on them say which
	}
	id := name.RequestID(f.Of)
	g := a.grants[id]
	switch {
	case a.e.Subject.Request != id:
		a.fault(FaultStatement, "of %s, the entry is about %q", id, a.e.Subject.Request)
	case g == nil || g.Waits == nil:
		a.fault(FaultOrder, "request %q does not wait for approvals", id)
	case g.decided():
		a.fault(FaultGrant, "request %s was decided before", id)
	case st.Hash != g.Signed:
		a.fault(FaultStatement, "signed for another request than %s", id)
	case key.Person == g.Request.Person:
		a.fault(FaultGrant, "%s approves their own request", key.Person)
	case a.e.Time.After(g.Waits.Until.Add(lateness)):
		a.fault(FaultGrant, "request %s waited until %s", id, g.Waits.Until.Format(time.RFC3339))
	default:
		g.Approvals = append(g.Approvals, Approval{*f, a.index, key, st.Checkpoint})
	}
}

// newest is what a person last said to the request.
func (g *Grant) newest(p name.Person) *Approval {
	for i := len(g.Approvals) - 1; i >= 0; i-- {
		if g.Approvals[i].Key.Person == p {
			return &g.Approvals[i]
		}
	}
	return nil
}

func (a *Audit) requestOverridden(f *RequestOverridden) {
	var st statement.Request
	key, t := a.human(&st, nil, true)
	if key == nil {
		return
	}
	a.sameTouch(key, t, f.Touch)
	g := a.grants[st.Of]
	switch {
	case st.Request != statement.RequestOverride:
		a.fault(FaultStatement, "signed for is a request of kind %q", st.Request)
	case a.e.Subject.Request != st.Of:
		a.fault(FaultStatement, "of %s, the entry is about %q", st.Of, a.e.Subject.Request)
	case g == nil || g.Waits == nil:
		a.fault(FaultOrder, "request %q does not wait for approvals", st.Of)
	case g.decided():
		a.fault(FaultGrant, "request %s was decided before", st.Of)
	case !sameAsk(&st, &g.Request) || st.Minutes != g.Request.Minutes || st.Reason != g.Request.Reason || st.Ticket != g.Request.Ticket ||
		st.Failure != g.Request.Failure || st.Severity != g.Request.Severity:
		a.fault(FaultStatement, "overrides %s, and asks for something else", st.Of)
	case a.e.Time.After(g.Waits.Until.Add(lateness)):
		a.fault(FaultGrant, "request %s waited until %s", st.Of, g.Waits.Until.Format(time.RFC3339))
	case f.Missing < 1 || f.Missing > f.Approvals:
		a.fault(FaultGrant, "overrides %d of %d approvals", f.Missing, f.Approvals)
	default:
		g.Overridden = &Overridden{*f, a.index, st, key, t}
	}
}

// counted demands that a decision on g stands on the touch that it names, and on as many approvals as it says were wanted.
func (a *Audit) counted(g *Grant, used *Used, approvals, overridden int) {
	if o := g.Overridden; o != nil {
		a.sameTouch(o.Key, o.Touched, used.Touch)
		if overridden != o.Missing || approvals != o.Approvals {
			a.fault(FaultGrant, "overrides %d of %d approvals, signed for were %d of %d", overridden, approvals, o.Missing, o.Approvals)
		}
	} else {
		a.sameTouch(g.Key, g.Touch, used.Touch)
		if overridden != 0 {
			a.fault(FaultGrant, "overrides %d approvals, and the requester did not sign for that", overridden)
		}
	}
	a.withCode(used, g.Request.ID)
	if g.Waits == nil && (approvals != 0 || overridden != 0 || len(used.Approved) != 0) {
		a.fault(FaultGrant, "decided at once, and on approvals")
	}
	if g.Waits != nil && approvals < 1 {
		a.fault(FaultGrant, "waited for approvals and was decided on none")
	}
	for i, p := range used.Approved {
		switch got := g.newest(p); {
		case slices.Contains(used.Approved[:i], p):
			a.fault(FaultGrant, "counts the approval of %s twice", p)
		case got == nil || got.Verdict != statement.Approve:
			a.fault(FaultGrant, "counts an approval of %s, who gave none", p)
		case a.e.Time.After(got.Until.Add(lateness)):
			a.fault(FaultGrant, "counts the approval of %s, which counted until %s", p, got.Until.Format(time.RFC3339))
		case !a.counting(got.Key):
			a.fault(FaultKey, "counts the approval of %s, by a key that does not count any more", p)
		}
	}
	if len(used.Approved)+overridden < approvals {
		a.fault(FaultGrant, "%d approvals of %d, %d overridden", len(used.Approved), approvals, overridden)
	}
}

func (a *Audit) grantExtended(f *GrantExtended) {
	g, ext := a.grants[a.e.Subject.Request], a.grants[f.Request]
	switch {
	case g == nil || g.Allowed == nil:
		a.fault(FaultGrant, "request %q was not granted", a.e.Subject.Request)
		return
	case ext == nil || ext.Request.Request != statement.RequestExtend || ext.Request.Of != g.Request.ID:
		a.fault(FaultGrant, "nobody signed for extending %s as %q", g.Request.ID, f.Request)
		return
	case ext.decided():
		a.fault(FaultGrant, "request %s was decided before", f.Request)
		return
	}
	a.sameRequest(&g.Request)
	a.knownPolicy(f.Used.Policy)
	a.counted(ext, &f.Used, f.Approvals, f.Overridden)
	switch asked := ext.Request.Minutes; {
	case !a.e.Time.Before(g.Until):
		a.fault(FaultGrant, "extends %s after its end", g.Request.ID)
	case f.Rule == "":
		a.fault(FaultGrant, "allowed by no rule")
	case asked > 0 && f.Minutes > asked:
		a.fault(FaultGrant, "%d minutes, %d were asked for", f.Minutes, asked)
	case f.Until.After(a.e.Time.Add(time.Duration(f.Minutes)*time.Minute + lateness)):
		a.fault(FaultGrant, "until %s, longer than its %d minutes", f.Until.Format(time.RFC3339), f.Minutes)
	case !f.Until.After(g.Until):
		a.fault(FaultGrant, "extends %s to no later end", g.Request.ID)
	}
	ext.Extended = f
	g.Extensions = append(g.Extensions, ext)
	g.Until = f.Until.Time
}

// PolicyText is an adopted policy's; "" is one that no entry holds.
func (a *Audit) PolicyText(h statement.Hash) string { return a.importedText(h) }
