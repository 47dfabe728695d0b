package ledger

import (
	"slices"
	"strings"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// This file holds against the signatures what lets a key count, and what keeps it counting: who vouched, who founded, who renewed, who reported a
// loss. How long an enrolment lasts is the policy's to say; that nothing was signed with a key before it counted is said here.

// enrolled is how a key stands.
type enrolled struct {
	id         string         // of the enrolment
	signed     statement.Hash // names it with its signature: what vouching is given to
	code       bool           // a code of the other channel came with it
	vouched    bool           // it counted at some time
	countsFrom time.Time      // zero: not vouched for, or not since it was renewed too late
	since      time.Time      // from when its time runs
	proved     time.Time
}

// counting says whether a key counts at the time of the entry at hand; not whether it has lapsed.
func (a *Audit) counting(k *PersonKey) bool {
	return !k.revoked && !k.suspended && !k.countsFrom.IsZero() && !a.e.Time.Before(k.countsFrom)
}

// mayCount demands that a key which signed an accepted act counted; it stands in human.
func (a *Audit) mayCount(k *PersonKey, kind statement.Kind) {
	if !k.countsFrom.IsZero() && !a.e.Time.Before(k.countsFrom) {
		return
	}
	switch {
	case kind == statement.KindRenewal:
	case k.vouched && k.countsFrom.IsZero() && (kind == statement.KindPass || kind == statement.KindApproval): // renewed late; keyVouched and approvalGiven look
	case !a.founded && (kind == statement.KindFounding || kind == statement.KindPass): // nobody was there yet who could vouch
	default:
		a.fault(FaultKey, "by %s's %s, which did not count: nobody had vouched for it, or it was cooling off", k.Person, k.Name)
	}
}

// enrolled notes a new key. It counts at once in a demo only.
func (a *Audit) enrolled(k *PersonKey, st *statement.Enrolment, f *KeyEnrolled) {
	k.enrolled = enrolled{id: st.ID, signed: statement.SignedHash(a.e.Statement, a.e.SSHSIG), code: f.TOTP != "", since: a.e.Time.Time, proved: a.e.Time.Time}
	if a.site.Profile == "demo" {
		k.vouched, k.countsFrom = true, a.e.Time.Time
	}
	if a.cfg.Part {
		return
	}
	had, lost := a.lost(k)
	switch {
	case lost && !f.Recovery:
		a.fault(FaultKey, "does not say that every key of %s is gone", k.Person)
	case f.Recovery && !had:
		a.fault(FaultKey, "a recovery of %s, who had no key", k.Person)
	}
	if s := a.totp[k.Person]; f.TOTP != "" && (s == nil || s.usedAt != a.index-1) {
		a.fault(FaultTOTP, "no code of %s was used for it", k.Person)
	}
}

// lost says whether k's person had other keys that counted, and whether none of them does any more.
func (a *Audit) lost(k *PersonKey) (had, lost bool) {
	counts := false
	for _, o := range a.keys {
		if o.Person == k.Person && o.Fingerprint != k.Fingerprint {
			had = had || o.vouched
			counts = counts || a.counting(o)
		}
	}
	return had, had && !counts
}

// keyVouched demands the approvals that the entry names: of the person with another key, or of enough others, each with a key that counts.
func (a *Audit) keyVouched(f *KeyVouched) {
	k := a.keys[a.e.Subject.Key]
	if k == nil || k.Person != a.e.Subject.Person {
		a.fault(FaultOrder, "vouches for %q of %q, which no earlier entry enrolled", a.e.Subject.Key, a.e.Subject.Person)
		return
	}
	if k.revoked || !k.countsFrom.IsZero() {
		a.fault(FaultKey, "key %s of %s was vouched for before, or is revoked", k.Name, k.Person)
	}
	for i, p := range f.By {
		n := slices.IndexFunc(a.given, func(g given) bool {
			return g.of == statement.AboutEnrolment+"\x00"+k.id && g.person == p && !a.e.Time.After(g.until.Add(lateness))
		})
		switch {
		case slices.Contains(f.By[:i], p):
			a.fault(FaultKey, "counts %s twice", p)
		case n < 0:
			a.fault(FaultKey, "%s did not vouch for it", p)
		case a.given[n].hash != k.signed.String():
			a.fault(FaultKey, "%s vouched for another enrolment", p)
		case a.given[n].key == k.Fingerprint:
			a.fault(FaultKey, "vouches for itself")
		case f.Scarce && f.How == VouchedByOthers:
		default:
			if by := a.keys[a.given[n].key]; by != nil && !a.counting(by) {
				a.fault(FaultKey, "%s vouched with a key that does not count", p)
			}
		}
	}
	own := slices.Contains(f.By, k.Person)
	_, lost := a.lost(k)
	if a.cfg.Part { // other keys of theirs may be left out
		lost = f.Recovery
	}
	needed := Vouchers
	if lost && !k.vouched && !k.code {
		needed = RecoveryVouchers
	}
	switch {
	case f.How == VouchedByOwnKey && own && len(f.By) == 1:
	case f.How == VouchedByOthers && !own && len(f.By) >= needed && (f.Needed >= needed || a.cfg.Part):
	default:
		a.fault(FaultKey, "%d people (%s) are not enough for %s's %s: it takes another key of theirs, or %d others", len(f.By), f.How, k.Person, k.Name, needed)
	}
	if cooling := time.Duration(f.Cooling) * time.Second; f.Cooling < 0 || !f.CountsFrom.Equal(a.e.Time.Add(cooling)) {
		a.fault(FaultKey, "counts from %s, %s after it was vouched for", f.CountsFrom.Format(time.RFC3339), cooling)
	} else if want, ok := a.terms().cooling(); ok && cooling != want {
		a.fault(FaultKey, "cools off for %s, the policy says %s", cooling, want)
	}
	k.vouched, k.countsFrom, k.since = true, f.CountsFrom.Time, a.e.Time.Time
}

// named resolves a list of people and @groups as the policy does: sorted, each once.
func (t terms) named(list []string) []name.Person {
	var out []name.Person
	for _, s := range list {
		g, group := strings.CutPrefix(s, "@")
		if !group {
			out = append(out, name.Person(s))
			continue
		}
		for p, x := range t.People {
			if slices.Contains(x.Groups, g) {
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (t terms) cooling() (time.Duration, bool) {
	d, err := time.ParseDuration(t.Enrolment.CoolingOff)
	return d, err == nil
}

// foundingSigned holds an owner's signature against what the entry says.
func (a *Audit) foundingSigned(f *FoundingSigned) {
	var st statement.Founding
	key, t := a.human(&st, nil, true)
	if key == nil {
		return
	}
	a.sameTouch(key, t, f.Touch)
	if st.Policy != f.Policy || st.Profile != a.site.Profile || !slices.Equal(st.Keys, f.Keys) || !slices.EqualFunc(st.Owners, f.Owners, func(s string, p name.Person) bool { return s == string(p) }) {
		a.fault(FaultStatement, "another founding was signed")
		return
	}
	switch {
	case a.founded && !a.cfg.Part:
		a.fault(FaultOrder, "the site was founded before")
	case !slices.Contains(f.Owners, key.Person):
		a.fault(FaultKey, "signed by %s, who is no owner", key.Person)
	case !slices.Contains(f.Keys, key.Fingerprint):
		a.fault(FaultKey, "signed with a key that is not among those adopted")
	}
	if a.foundings == nil {
		a.foundings = map[name.Person]*FoundingSigned{}
	}
	a.foundings[key.Person] = f
}

// founding demands the signature of every owner whom the policy names, under this very policy and these very keys.
func (a *Audit) founding(f *Founding) {
	if !a.cfg.Part && f.Policy != a.policy {
		a.fault(FaultPolicy, "adopts policy %s, in force is %s", f.Policy, a.policy)
	}
	if a.founded {
		a.fault(FaultOrder, "the site was founded before")
	}
	a.founded = true
	if f.How == "demo" {
		if a.site.Profile != "demo" {
			a.fault(FaultKey, "founded by nobody")
		}
		return
	}
	if text, known := a.policies[f.Policy]; known || !a.cfg.Part {
		t := readTerms(text)
		if owners := t.named(t.Site.Owners); len(owners) == 0 || !slices.Equal(owners, f.Owners) {
			a.fault(FaultKey, "founded by %s, the policy's owners are %s", people(f.Owners), people(owners))
		}
	}
	if len(f.Owners) == 0 {
		a.fault(FaultKey, "founded by nobody")
	}
	for _, o := range f.Owners {
		if s := a.foundings[o]; s == nil || s.Policy != f.Policy || !slices.Equal(s.Owners, f.Owners) || !slices.Equal(s.Keys, f.Keys) {
			a.fault(FaultKey, "owner %s did not sign this founding", o)
		}
	}
	for _, fp := range f.Keys {
		if k := a.keys[fp]; k != nil {
			k.vouched, k.countsFrom, k.since = true, a.e.Time.Time, a.e.Time.Time
		} else if !a.cfg.Part {
			a.fault(FaultKey, "adopts key %s, which no earlier entry enrolled", fp)
		}
	}
}

func people(list []name.Person) string {
	if len(list) == 0 {
		return "nobody"
	}
	out := string(list[0])
	for _, p := range list[1:] {
		out += ", " + string(p)
	}
	return out
}

// keyProved holds a key's proof that it is there.
func (a *Audit) keyProved(f *KeyProved) {
	var st statement.Renewal
	key, t := a.human(&st, nil, true)
	if key == nil {
		return
	}
	a.sameTouch(key, t, f.Touch)
	if st.Key != key.Fingerprint || a.e.Subject.Key != key.Fingerprint {
		a.fault(FaultStatement, "signed by %s, the proof is of %s", key.Fingerprint, st.Key)
		return
	}
	key.proved = a.e.Time.Time
}

// enrolmentRenewed demands a fresh proof of every key that the person has.
func (a *Audit) enrolmentRenewed(f *EnrolmentRenewed) {
	if len(f.Keys) == 0 {
		a.fault(FaultKey, "renews no key")
	}
	for _, k := range a.keys {
		if k.Person == a.e.Subject.Person && k.vouched && !k.revoked && !slices.Contains(f.Keys, k.Fingerprint) {
			a.fault(FaultKey, "leaves out %s of %s", k.Name, k.Person)
		}
	}
	for _, fp := range f.Lapsed {
		if !slices.Contains(f.Keys, fp) {
			a.fault(FaultKey, "%s lapsed and is not among those renewed", fp)
		}
	}
	for i, fp := range f.Keys {
		k := a.keys[fp]
		switch {
		case k == nil && a.cfg.Part:
			continue
		case k == nil || k.Person != a.e.Subject.Person || slices.Contains(f.Keys[:i], fp):
			a.fault(FaultKey, "renews %s, which is no key of %s, or twice", fp, a.e.Subject.Person)
			continue
		case k.revoked, k.suspended, !k.vouched:
			a.fault(FaultKey, "renews %s of %s, which is revoked or suspended, or never counted", k.Name, k.Person)
		case !a.cfg.Part && a.e.Time.Sub(k.proved) > ProofCounts:
			a.fault(FaultKey, "%s of %s was not proved since %s", k.Name, k.Person, k.proved.Format(time.RFC3339))
		case k.countsFrom.IsZero() && !slices.Contains(f.Lapsed, fp):
			a.fault(FaultKey, "%s of %s had lapsed, and nobody vouched for it", k.Name, k.Person)
		}
		k.since = a.e.Time.Time
		if slices.Contains(f.Lapsed, fp) {
			k.countsFrom = time.Time{}
		}
	}
}

// keyLost holds a person's report against their signature: another key of theirs, never the lost one.
func (a *Audit) keyLost(f *Revoked) {
	var st statement.Loss
	key, _ := a.human(&st, nil, true)
	if key == nil {
		return
	}
	why := "lost"
	if st.Reason != "" {
		why += ": " + st.Reason
	}
	if f.What != RevokedKey || st.Key != f.Target || f.Why != why {
		a.fault(FaultStatement, "another loss was reported")
	}
	if k := a.keys[f.Target]; k != nil && k.Person != key.Person {
		a.fault(FaultKey, "%s reports a key of %s as lost", key.Person, k.Person)
	}
	if f.Target == key.Fingerprint {
		a.fault(FaultKey, "signed with the key that is lost")
	}
}
