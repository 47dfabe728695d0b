package ledger

import "golang.org/x/crypto/ssh"

// siteSucceeded judges the first entry of a ledger that follows a lost one, as far as it can be without that. What it carries over follows at once, and is
// what the founders signed.
func (a *Audit) siteSucceeded(f *SiteSucceeded) {
	if _, err := f.Check(); err != nil {
		a.fault(FaultSignature, "%v", err)
	}
	for _, j := range f.Site.Jumps { // they joined the lost one
		key, err := parseKey(j.Key)
		if err != nil {
			a.fault(FaultSite, "key of jump %s: %v", j.Name, err)
			continue
		}
		a.jumps[j.Name] = &machine{key: key}
	}
	a.setSite(&f.Site)
	a.founded, a.succeeded = true, f
}

// carries takes one thing that goes on; where it is the last, all of them are what was signed.
func (a *Audit) carries(c Carried) {
	if a.succeeded == nil && !a.cfg.Part {
		a.fault(FaultOrder, "carried over from no ledger")
		return
	}
	a.carried = append(a.carried, c)
}

func (a *Audit) keyCarried(f *KeyCarried) {
	key, err := parseKey(f.PublicKey)
	if err != nil {
		a.fault(FaultKey, "%v", err)
		return
	}
	fp := ssh.FingerprintSHA256(key)
	if fp != a.e.Subject.Key {
		a.fault(FaultKey, "key %s, the entry is about %s", fp, a.e.Subject.Key)
	}
	if a.keys[fp] != nil {
		a.fault(FaultKey, "key %s stands twice", fp)
	}
	a.carries(Carried{a.e.Subject.Person, fp, f})
	a.keys[fp] = &PersonKey{Person: a.e.Subject.Person, Name: f.Name, Fingerprint: fp, Index: a.index, Software: f.Model == "", Model: f.Model, pub: key, counter: f.Counter,
		enrolled: enrolled{id: f.Enrolment, signed: f.Signed, vouched: true, countsFrom: a.e.Time.Time, since: f.Since.Time, proved: f.Proved.Time}}
}

func (a *Audit) recipientCarried(f *RecipientCarried) {
	a.carries(Carried{Person: a.e.Subject.Person, Facts: f})
	if f.Recovery {
		a.recovery = f.Age
		return
	}
	a.recipients[f.Age] = a.e.Subject.Person
}

// allCarried holds what was carried over against what the founders signed, once something else follows.
func (a *Audit) allCarried() {
	if a.succeeded == nil || a.cfg.Part || a.carriedOver {
		return
	}
	a.carriedOver = true
	if sum, err := CarriedHash(a.carried); err != nil || sum != a.succeeded.Carried {
		a.fault(FaultKey, "other enrolments and recipients were carried over than the founders signed for")
	}
}
