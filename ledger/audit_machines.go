package ledger

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"slices"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
)

func (a *Audit) jumpJoined(f *JumpJoined) {
	key, err := parseKey(f.Jump.Key)
	if err != nil {
		a.fault(FaultSite, "key of jump %s: %v", f.Jump.Name, err)
		return
	}
	if f.Jump.Name != a.e.Subject.Jump {
		a.fault(FaultSite, "jump %s, the entry is about %q", f.Jump.Name, a.e.Subject.Jump)
	}
	if inv := a.invites[f.Invite]; !a.cfg.Part && (inv == nil || inv.For != "jump" || inv.Name != string(f.Jump.Name)) {
		a.fault(FaultSite, "no invite of jump %s has that hash", f.Jump.Name)
	}
	if old := a.jumps[f.Jump.Name]; old != nil && old.revoked && sameKey(old.key, key) {
		a.fault(FaultRevoked, "jump %s joins with the key that was revoked", f.Jump.Name)
	}
	a.jumps[f.Jump.Name] = &machine{key: key} // joined anew, its facts begin anew
}

func (a *Audit) jumpGap(f *JumpGap) {
	a.fault(FaultGap, "facts %d to %d of jump %s never came", f.Have+1, f.Got-1, a.e.Subject.Jump)
	if m := a.jumps[a.e.Subject.Jump]; m != nil {
		m.number, m.previous = f.Got-1, statement.Hash{}
	}
}

// signedBy checks the entry's statement under a jump's key.
func (a *Audit) signedBy(j name.Jump, st statement.Statement) *machine {
	m := a.jumps[j]
	if m == nil {
		a.fault(FaultSignature, "by jump %q, which did not join", j)
		return nil
	}
	if m.revoked {
		a.fault(FaultRevoked, "by jump %s, which was revoked", j)
	}
	if err := statement.Parse([]byte(a.e.Statement), st); err != nil {
		a.fault(FaultStatement, "%v", err)
		return nil
	}
	if _, err := a.signature(m.key, st.Kind().Namespace()); err != nil {
		a.fault(FaultSignature, "of jump %s: %v", j, err)
		return nil
	}
	return m
}

// fact checks that the entry is what a jump signed, in the order in which the jump counted.
func (a *Audit) fact() *statement.Fact {
	var st statement.Fact
	if err := statement.Parse([]byte(a.e.Statement), &st); err != nil {
		a.fault(FaultStatement, "%v", err)
		return nil
	}
	m := a.signedBy(name.Jump(st.Machine), &st)
	if m == nil {
		return nil
	}
	f := newFacts(a.e.Type())
	body := []byte(st.Body)
	if err := decodeJSON(body, f); err != nil {
		a.fault(FaultFact, "body: %v", err)
		return nil
	}
	signed, err1 := encodeJSON(f)
	entered, err2 := encodeJSON(a.e.Facts)
	if err1 != nil || err2 != nil || !bytes.Equal(signed, entered) || st.Type != string(a.e.Type()) || st.Session != a.e.Subject.Session {
		a.fault(FaultFact, "jump %s signed another fact", st.Machine)
		return nil
	}
	if st.Origin != a.site.Origin {
		a.fault(FaultFact, "for origin %q", st.Origin)
	}
	if s := a.e.Subject.Jump; s != "" && s != name.Jump(st.Machine) {
		a.fault(FaultFact, "by jump %s, the entry is about %s", st.Machine, s)
	}
	switch {
	case st.Number <= m.number:
		a.fault(FaultFact, "fact %d of jump %s after its fact %d", st.Number, st.Machine, m.number)
	case a.cfg.Part:
	case st.Number != m.number+1:
		a.fault(FaultGap, "fact %d of jump %s after its fact %d", st.Number, st.Machine, m.number)
	case m.previous != st.Previous && (m.previous != statement.Hash{} || m.number == 0):
		a.fault(FaultFact, "jump %s counts another fact before this one", st.Machine)
	}
	m.number, m.previous = st.Number, sha256.Sum256([]byte(a.e.Statement))
	return &st
}

func (a *Audit) certificateIssued(f *CertificateIssued) {
	c, err := sshcert.Parse([]byte(f.Certificate))
	if err != nil {
		a.fault(FaultCertificate, "%v", err)
		return
	}
	var cas []ssh.PublicKey
	switch k := sshcert.Kind(f.Kind); k {
	case sshcert.Client:
		cas = a.cas("client_ca")
	case sshcert.Session, sshcert.Via:
		cas = a.cas("session_ca")
	case sshcert.Host:
		cas = a.cas("host_ca")
	default:
		a.fault(FaultCertificate, "kind %q", f.Kind)
		return
	}
	if err := sshcert.Verify(c, sshcert.Kind(f.Kind), cas, noClock); err != nil {
		a.fault(FaultCertificate, "%v", err)
		return
	}
	if c.Serial != f.Serial || c.KeyId != f.KeyID || ssh.FingerprintSHA256(c.SignatureKey) != f.CA || int64(c.ValidBefore) != f.Until.Unix() {
		a.fault(FaultCertificate, "serial, key id, CA or end is not what the certificate says")
	}
	a.serial(c, f.Kind == string(sshcert.Session) || f.Kind == string(sshcert.Via))
	switch sshcert.Kind(f.Kind) {
	case sshcert.Client:
		a.clientIssued(c)
	case sshcert.Session:
		g := a.grants[a.e.Subject.Request]
		if g == nil || g.Allowed == nil || c.KeyId != sshcert.KeyID(g.Request.ID, g.Request.Person) ||
			c.ValidPrincipals[0] != sshcert.SessionPrincipal(g.Request.Login, g.Request.Host) {
			a.fault(FaultCertificate, "session certificate of no grant")
		}
	case sshcert.Via:
		g := a.grants[a.e.Subject.Request]
		if g == nil || g.Allowed == nil || c.KeyId != sshcert.KeyID(g.Request.ID, g.Request.Person) {
			a.fault(FaultCertificate, "via certificate of no grant")
		}
	}
}

// serial demands that each serial is used once. A session's certificate stands in two entries, its own and session.opened.
func (a *Audit) serial(c *ssh.Certificate, twice bool) {
	if i, ok := a.serials[c.Serial]; ok && !(twice && a.index-i <= sessionEntries) {
		a.fault(FaultCertificate, "serial %d was used by entry %d", c.Serial, i)
	}
	a.serials[c.Serial] = a.index
}

// sessionEntries is how far apart the two entries of a session's certificate can lie: one commit.
const sessionEntries = 1 << 10

// clientIssued holds a client certificate against the grant that it belongs to.
func (a *Audit) clientIssued(c *ssh.Certificate) {
	opt, err := sshcert.ParseGrant(c.CriticalOptions[sshcert.OptionGrant])
	if err != nil {
		a.fault(FaultCertificate, "%v", err)
		return
	}
	g := a.grants[opt.Request]
	if g == nil || g.Allowed == nil {
		a.fault(FaultGrant, "certificate for %s, which was not granted", opt.Request)
		return
	}
	a.standing(g, c.Serial)
	r := &g.Request
	if opt != (sshcert.Grant{Request: r.ID, Login: r.Login, Host: r.Host}) || c.KeyId != sshcert.KeyID(r.ID, r.Person) || a.e.Subject.Request != r.ID {
		a.fault(FaultCertificate, "for %s, granted is %s@%s to %s", opt, r.Login, r.Host, r.Person)
	}
	if fp := ssh.FingerprintSHA256(c.Key); fp != r.ClientKey {
		a.fault(FaultCertificate, "over key %s, signed for was %s", fp, r.ClientKey)
	}
	if end := int64(c.ValidBefore); end > g.Until.Unix() {
		a.fault(FaultCertificate, "ends %d s after the grant", end-g.Until.Unix())
	}
	addrs, err := sshcert.ParseSources(c.CriticalOptions[sshcert.OptionSourceAddress])
	if err != nil {
		a.fault(FaultCertificate, "%v", err)
	}
	for _, addr := range addrs {
		if !slices.ContainsFunc(r.Sources, func(s string) bool { p, err := netip.ParseAddr(s); return err == nil && p.Unmap() == addr.Unmap() }) {
			a.fault(FaultCertificate, "good from %s, signed for were %v", addr, r.Sources)
		}
	}
	g.Certificates = append(g.Certificates, Issued{a.index, c})
}

func (a *Audit) sessionOpened(f *SessionOpened) {
	var st statement.Session
	sub := a.e.Subject
	if a.signedBy(sub.Jump, &st) == nil {
		return
	}
	if st.Jump != sub.Jump || st.Origin != a.site.Origin || st.Login != sub.Login || st.Host != "" && st.Host != sub.Host ||
		st.Door != f.Door || st.Peer != f.Peer || st.SSHSession != f.SSHSession || st.Key != f.Key {
		a.fault(FaultSession, "jump %s asked for another session", st.Jump)
	}
	if i, ok := a.spent[st.Nonce]; ok {
		a.fault(FaultReplay, "the question of entry %d again", i)
	}
	a.spent[st.Nonce] = a.index
	a.knownPolicy(f.Policy)
	g := a.grants[sub.Request]
	if g == nil || g.Allowed == nil {
		a.fault(FaultGrant, "session under %q, which was not granted", sub.Request)
		return
	}
	a.sameRequest(&g.Request)
	if sub.Session.Request() != sub.Request || a.sessions[sub.Session] != nil {
		a.fault(FaultSession, "id %q is not of request %s, or used before", sub.Session, sub.Request)
		return
	}
	if !a.e.Time.Before(g.Until) || f.Until.After(g.Until) {
		a.fault(FaultGrant, "opened or running after the grant's end")
	}
	for _, w := range f.Forwards {
		if !slices.Contains(g.Allowed.Forwards, w) {
			a.fault(FaultGrant, "forward %q was not granted", w)
		}
	}
	if len(f.HostKeys) == 0 && len(f.HostCAs) == 0 {
		a.fault(FaultSession, "no key by which the host can be known")
	}
	a.standing(g, f.Serial)
	a.standsOn(g, f)
	a.shownCertificate(g, f, &st)
	a.sessionCertificate(g, f)
	if f.Via != nil {
		a.sessionVia(g, f)
	}
	a.sealedTo(f)
	s := &Session{ID: sub.Session, Subject: sub, Opened: f, OpenedTime: a.e.Time.Time, OpenedIndex: a.index, EntryHash: EntryHash(a.raw)}
	a.sessions[s.ID] = s
	g.Sessions = append(g.Sessions, s)
}

// shownCertificate demands that the certificate which the jump was shown is one that the grant was issued, good then and there.
func (a *Audit) shownCertificate(g *Grant, f *SessionOpened, st *statement.Session) {
	shown, err := sshcert.Parse([]byte(st.Certificate))
	if err != nil {
		a.fault(FaultCertificate, "%v", err)
		return
	}
	if shown.Serial != f.Serial || !slices.ContainsFunc(g.Certificates, func(i Issued) bool { return bytes.Equal(i.Certificate.Marshal(), shown.Marshal()) }) {
		a.fault(FaultCertificate, "the jump was shown a certificate (serial %d) that was not issued to %s", shown.Serial, g.Request.ID)
		return
	}
	if at := uint64(a.e.Time.Unix()); at >= shown.ValidBefore || at < shown.ValidAfter {
		a.fault(FaultCertificate, "shown when it was not valid")
	}
	peer, err := netip.ParseAddr(f.Peer)
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(f.Peer); err == nil {
			peer = ap.Addr()
		}
	}
	if err == nil {
		err = sshcert.FromSource(shown, peer)
	}
	if err != nil {
		a.fault(FaultCertificate, "peer %q: %v", f.Peer, err)
	}
}

// sessionCertificate holds what the jump was given against the grant.
func (a *Audit) sessionCertificate(g *Grant, f *SessionOpened) {
	c, err := sshcert.Parse([]byte(f.Certificate))
	if err == nil {
		err = sshcert.Verify(c, sshcert.Session, a.cas("session_ca"), noClock)
	}
	if err != nil {
		a.fault(FaultCertificate, "%v", err)
		return
	}
	if err := f.InSlack(c); err != nil {
		a.fault(FaultCertificate, "%v", err)
	}
	key, err := parseKey(f.Key)
	if err != nil || !sameKey(c.Key, key) {
		a.fault(FaultCertificate, "session certificate over another key than the jump's")
	}
	if c.KeyId != sshcert.KeyID(g.Request.ID, g.Request.Person) || c.ValidPrincipals[0] != sshcert.SessionPrincipal(g.Request.Login, g.Request.Host) {
		a.fault(FaultCertificate, "session certificate of %s for %s", c.KeyId, c.ValidPrincipals[0])
	}
	if _, ok := c.Extensions[sshcert.ExtensionPortForwards]; ok && len(f.Forwards) == 0 {
		a.fault(FaultCertificate, "allows forwards that were not granted")
	}
	a.serial(c, true)
}

// sessionRefused carries the jump's question where it was one.
func (a *Audit) sessionRefused() {
	if a.e.Statement != "" {
		var st statement.Session
		a.signedBy(a.e.Subject.Jump, &st)
	}
}

// sessionFact is what a jump reports of a session.
func (a *Audit) sessionFact() {
	st := a.fact()
	if st == nil {
		return
	}
	s := a.sessions[st.Session]
	if s == nil {
		a.fault(FaultSession, "session %q was not opened", st.Session)
		return
	}
	if s.Subject.Jump != name.Jump(st.Machine) {
		a.fault(FaultSession, "jump %s speaks of a session of jump %s", st.Machine, s.Subject.Jump)
	}
	switch a.e.Facts.(type) {
	case *HostKeyMismatch, *SessionBlind, *SessionSighted:
		return
	}
	if f, ok := a.e.Facts.(*SessionHead); ok {
		a.sessionHead(s, f)
		return
	}
	if a.overBefore(s) {
		return
	}
	switch f := a.e.Facts.(type) {
	case *SessionEnded:
		s.Ended = f
	case *SessionCrashed:
		s.Crashed = f
	}
	if h, _ := s.Head(); h != nil {
		a.behindHeads(s, h)
	}
	s.OverIndex, s.OverTime = a.index, a.e.Time.Time
}

func (a *Audit) transcriptStored(f *TranscriptStored) {
	s := a.sessions[a.e.Subject.Session]
	if s == nil {
		a.fault(FaultSession, "session %q was not opened", a.e.Subject.Session)
		return
	}
	h, env := s.Head()
	switch {
	case h == nil:
		a.fault(FaultTranscript, "stored before the jump reported its end")
	case *h != f.Head || env != f.Envelope:
		a.fault(FaultTranscript, "what is stored is not what jump %s sealed: head %v, reported %v", s.Subject.Jump, f.Head, *h)
	case s.Stored != nil:
		a.fault(FaultTranscript, "stored before by entry %d", s.StoredIndex)
	default:
		s.Stored, s.StoredIndex = f, a.index
	}
}

func (a *Audit) transcriptRead(f *TranscriptRead) {
	s := a.sessions[a.e.Subject.Session]
	if s == nil {
		a.fault(FaultSession, "session %q was not opened", a.e.Subject.Session)
		return
	}
	a.underPass(f.Pass)
	s.Reads = append(s.Reads, a.index)
}

// underPass demands that the entry's actor held the pass, and that it lasted.
func (a *Audit) underPass(id string) {
	p, ok := a.passes[id]
	switch {
	case !ok && a.cfg.Part: // a pass is its holder's
	case !ok:
		a.fault(FaultPass, "under pass %q, which was not granted", id)
	case a.e.Time.After(p.until):
		a.fault(FaultPass, "after the pass of %s ended", p.person)
	case a.e.Actor != PersonActor(p.person):
		a.fault(FaultPass, "by %s under the pass of %s", a.e.Actor, p.person)
	}
}
