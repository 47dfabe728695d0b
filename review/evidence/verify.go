package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"filippo.io/age"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/transcript"
)

// Trust is what a bundle is checked against: the pins. It never comes from a bundle.
type Trust struct {
	Site       ledger.Site
	Checkpoint string // signed note that the pins hold; may be empty
}

// Pinned is the history that the pins know, if they do.
func (t Trust) Pinned() []statement.Checkpoint {
	if c, err := ledger.OpenCheckpoint(t.Checkpoint, t.Site.LedgerKey); err == nil {
		return []statement.Checkpoint{c.Pin()}
	}
	return nil
}

// Options are what else a verifier has.
type Options struct {
	// Identities open envelopes; without one a bundle is verified sealed.
	Identities []age.Identity
	// Only, if not "", is the one session whose recording is judged; the bundle may lack the others'.
	Only name.SessionID
	// Fresh says that the bundle was just fetched from the CA: it can't know less history than the pins.
	Fresh bool
}

// maxFailures bounds a verdict.
const maxFailures = 20

// Verify reads a bundle to its end and judges it. It never fails otherwise than by saying FAILED: a bundle that can't be read proves nothing.
func Verify(r io.Reader, trust Trust, o Options) *Verdict {
	c := &checker{trust: trust, o: o, v: &Verdict{Checks: []Check{}, Recordings: []RecordingVerdict{}}}
	c.run(&reader{r: r})
	return c.verdict()
}

type checker struct {
	trust Trust
	o     Options
	v     *Verdict

	e     *Evidence
	head  ledger.Checkpoint
	roots map[int64]statement.Hash // proven: the history at that size goes on to head
	audit *ledger.Audit
	grant *ledger.Grant
	// related are the requests about this one.
	related []name.RequestID

	until  []string
	sealed bool
}

func (c *checker) fail(where, format string, a ...any) {
	if len(c.v.Failures) >= maxFailures {
		c.v.More++
		return
	}
	c.v.Failures = append(c.v.Failures, Failure{where, fmt.Sprintf(format, a...)})
}

func (c *checker) ok(what, format string, a ...any) {
	c.v.Checks = append(c.v.Checks, Check{what, fmt.Sprintf(format, a...)})
}

func (c *checker) note(format string, a ...any) {
	c.v.Notes = append(c.v.Notes, fmt.Sprintf(format, a...))
}

func (c *checker) verdict() *Verdict {
	v := c.v
	switch {
	case len(v.Failures) > 0:
		v.Result = Failed
	case len(c.until) > 0:
		v.Result, v.Until = VerifiedUntil, strings.Join(c.until, "; ")
	case c.sealed:
		v.Result = VerifiedSealed
	default:
		v.Result = Verified
	}
	return v
}

func (c *checker) run(r *reader) {
	member, size, err := r.next()
	if err == nil && (member != memberEvidence || size > MaxEvidence) {
		err = fmt.Errorf("%w: begins with %q of %d bytes", ErrFormat, member, size)
	}
	var b []byte
	if err == nil {
		b, err = io.ReadAll(r)
	}
	if err == nil {
		c.e, err = parseEvidence(b)
	}
	if err != nil {
		c.fail("bundle", "%v", err)
		return
	}
	c.v.Request = c.e.Request
	if !c.log() {
		return
	}
	c.request()
	c.recordings(r)
}

// log checks the checkpoint, each entry's proof, and then what the entries say, each against those before.
func (c *checker) log() bool {
	vkey := c.trust.Site.LedgerKey
	head, err := ledger.OpenCheckpoint(c.e.Checkpoint, vkey)
	if err != nil {
		c.fail("log", "%v", err)
		return false
	}
	if head.Origin != c.trust.Site.Origin {
		c.fail("log", "origin %q, pinned is %q", head.Origin, c.trust.Site.Origin)
		return false
	}
	c.head = head
	c.roots = map[int64]statement.Hash{0: ledger.EntryHash(nil), head.Size: head.Root}
	for _, l := range c.e.Links {
		if err := ledger.CheckConsistency(statement.Checkpoint{Size: l.Size, Root: l.Root}, head.Pin(), l.Proof); err != nil {
			c.fail("log", "%v", err)
			continue
		}
		c.roots[l.Size] = l.Root
	}
	pinned := c.pinned()
	cosigned := c.witnessed()
	c.audit = ledger.NewAudit(ledger.AuditConfig{LedgerKey: vkey, Pinned: &c.trust.Site, Part: true, History: func(seen statement.Checkpoint, index int64) error {
		if seen.Size > index {
			return fmt.Errorf("of %d entries, at entry %d", seen.Size, index)
		}
		return c.linked(seen)
	}})
	for _, p := range c.e.Entries {
		if err := ledger.CheckInclusion([]byte(p.Entry), p.Index, p.Proof, head); err != nil {
			c.fail(fmt.Sprintf("entry %d", p.Index), "%v", err)
			continue // what is not in the ledger says nothing
		}
		c.audit.Add(p.Index, []byte(p.Entry))
		c.about(p)
	}
	findings, more := c.audit.Findings()
	for _, f := range findings {
		c.fail(fmt.Sprintf("entry %d (%s)", f.Index, f.Type), "%s: %s", f.Code, f.Detail)
	}
	c.v.More += more
	if c.audit.Site() == nil {
		c.fail("log", "site.created, on which all else stands, is missing")
		return false
	}
	c.ok("log", "%d entries proven in the ledger of %s at %d entries, signed with the pinned key; %s; %s", len(c.e.Entries), head.Origin, head.Size, pinned, cosigned)
	return true
}

// linked checks that a history which somebody saw is a prefix of the checkpoint's.
func (c *checker) linked(seen statement.Checkpoint) error {
	root, ok := c.roots[seen.Size]
	if !ok {
		return fmt.Errorf("no proof leads from %d entries to %d", seen.Size, c.head.Size)
	}
	if root != seen.Root {
		return fmt.Errorf("root of %d entries is %s, seen was %s", seen.Size, root, seen.Root)
	}
	return nil
}

// pinned checks that the history which the pins know goes on to the checkpoint, where the bundle can show it.
func (c *checker) pinned() string {
	if c.trust.Checkpoint == "" {
		return "the pins hold no checkpoint"
	}
	pin, err := ledger.OpenCheckpoint(c.trust.Checkpoint, c.trust.Site.LedgerKey)
	if err != nil {
		c.fail("pins", "%v", err)
		return ""
	}
	_, ok := c.roots[pin.Size]
	switch {
	case !ok && c.o.Fresh:
		c.fail("log", "the CA's history of %d entries does not go on from the %d that the pins know", c.head.Size, pin.Size)
		return ""
	case pin.Size > c.head.Size:
		c.note("the pins know %d entries, more than the bundle's %d: that both are one history was not checked", pin.Size, c.head.Size)
		return "older than the pins"
	case !ok:
		c.note("the bundle has no proof from the pins' %d entries: it was made under other pins", pin.Size)
		return "not linked to the pins' checkpoint"
	}
	if err := c.linked(pin.Pin()); err != nil {
		c.fail("log", "the pins know another history: %v", err)
		return ""
	}
	return fmt.Sprintf("history goes on from the pins' %d", pin.Size)
}

// about refuses entries of other requests: a bundle is about one.
func (c *checker) about(p Entry) {
	e, err := ledger.Decode([]byte(p.Entry))
	if err != nil {
		return // the audit said so
	}
	// An extension, and an override that was refused, is a request of its own about this one.
	var st statement.Request
	if statement.Parse([]byte(e.Statement), &st) == nil && st.Of == c.e.Request {
		c.related = append(c.related, st.ID)
	}
	if r := e.Subject.Request; r != "" && r != c.e.Request && !slices.Contains(c.related, r) {
		c.fail(fmt.Sprintf("entry %d (%s)", p.Index, e.Type()), "is about request %s", r)
	}
}

// request judges what was signed and decided.
func (c *checker) request() {
	g := c.audit.Grant(c.e.Request)
	if g == nil {
		c.fail("request "+string(c.e.Request), "no signed request in the bundle")
		return
	}
	c.grant = g
	r := &g.Request
	c.v.Person, c.v.Login, c.v.Host, c.v.Reason = r.Person, r.Login, r.Host, r.Reason
	touch := "touch and PIN"
	if !g.Touch.UserVerified() {
		touch = "touch alone"
		if !c.pinWaived(g) {
			c.fail(fmt.Sprintf("entry %d (request.opened)", g.RequestIndex), "touch: the key checked neither PIN nor finger, and the policy wants it")
		}
	}
	soft := ""
	switch {
	case g.Key.Software:
		soft = ", a software key of the demo"
	case g.Key.Model != "":
		soft = fmt.Sprintf(", proved to be a %q", g.Key.Model)
	}
	c.ok("request", "signed by %s's %s (counter %d%s), %s, over %s@%s, reason and client key: %q", r.Person, g.Key.Name, g.Touch.Counter, soft, touch, r.Login, r.Host, r.Reason)
	c.approvals(g)
	switch {
	case g.Denied != nil:
		c.v.Decision = "denied"
		codes := make([]string, len(g.Denied.Reasons))
		for i, r := range g.Denied.Reasons {
			codes[i] = r.Code
		}
		c.ok("decision", "denied: %s", strings.Join(codes, ", "))
		if len(g.Certificates) > 0 || len(g.Sessions) > 0 {
			c.fail("request "+string(r.ID), "denied, and a certificate or session all the same")
		}
		return
	case g.Allowed == nil && g.Waits != nil:
		c.v.Decision = "waiting"
		c.until = append(c.until, fmt.Sprintf("%s: request %s waited for %d approvals, and nothing came of it", clock(g.Waits.Until.Time), r.ID, g.Waits.Approvals))
		return
	case g.Allowed == nil:
		c.fail("request "+string(r.ID), "neither allowed nor denied")
		return
	}
	c.v.Decision = "allowed"
	c.ok("decision", "rule %q of policy %.12s: %d min, until %s", g.Allowed.Rule, g.Allowed.Used.Policy, g.Allowed.Minutes, clock(g.Allowed.Until.Time))
	c.decidedBy(fmt.Sprintf("entry %d (grant.allowed)", g.AllowedIndex), r, g.Allowed.Rule, g.Policy, g.Allowed.Approvals, &g.Allowed.Used)
	for _, x := range g.Extensions {
		f := x.Extended
		c.ok("extension", "%s, signed by %s's %s (counter %d): rule %q, %d min more, until %s", x.Request.ID, r.Person, x.Key.Name, x.Touch.Counter, f.Rule, f.Minutes, clock(f.Until.Time))
		c.approvals(x)
		c.decidedBy("extension "+string(x.Request.ID), &x.Request, f.Rule, c.audit.PolicyText(f.Used.Policy), f.Approvals, &f.Used)
	}
	if len(g.Certificates) == 0 {
		c.fail("request "+string(r.ID), "allowed without a certificate")
	}
	for _, i := range g.Certificates {
		c.ok("certificate", "serial %d for the signed client key, one principal, until %s, entry %d before it was sent",
			i.Certificate.Serial, clock(time.Unix(int64(i.Certificate.ValidBefore), 0)), i.Index)
	}
}

// pinWaived says that the policy by which the grant was decided, itself a proven entry, asks for no PIN. A policy that can't be read waives nothing.
func (c *checker) pinWaived(g *ledger.Grant) bool {
	if g.Denied != nil && g.Allowed == nil {
		return true
	}
	p, err := policy.Parse("policy.adopted", []byte(g.Policy))
	return err == nil && !p.Always.UV
}

// recordings walks the streams in the order of their sessions.
func (c *checker) recordings(r *reader) {
	var sessions []*ledger.Session
	if c.grant != nil {
		sessions = c.grant.Sessions
	}
	for i, s := range sessions {
		if s.ID.N() != i+1 {
			c.fail("session "+string(s.ID), "session %d of the request is missing", i+1)
		}
	}
	if o := c.o.Only; o != "" && !slices.ContainsFunc(sessions, func(s *ledger.Session) bool { return s.ID == o }) {
		c.fail("session "+string(o), "not in the ledger's entries")
	}
	if c.grant != nil && c.grant.Allowed != nil && !c.o.Fresh && c.o.Only == "" {
		// Sessions are numbered without a gap, so only the last can be cut off unseen: whoever reads VERIFIED is to know.
		c.note("sessions in the bundle: %d; whether a later one was cut off it can't show: `breakglass verify %s` asks the CA", len(sessions), c.e.Request)
	}
	next := 0
	// missing accounts for sessions without a stream in the bundle.
	missing := func(until int) {
		for ; next < until; next++ {
			c.absent(sessions[next])
		}
	}
	var envelope []byte
	var envelopeOf string
	for {
		member, size, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			c.fail("bundle", "%v", err)
			return
		}
		base, isStream := strings.CutSuffix(member, suffixTranscript)
		if !isStream {
			var ok bool
			if base, ok = strings.CutSuffix(member, suffixEnvelope); !ok || size > transcript.MaxEnvelope || envelope != nil {
				c.fail("bundle", "%v: member %q of %d bytes", ErrFormat, member, size)
				return
			}
			if envelope, err = io.ReadAll(r); err != nil {
				c.fail("bundle", "%v", err)
				return
			}
			envelopeOf = base
			continue
		}
		at := next
		for at < len(sessions) && sessions[at].ID.File() != base {
			at++
		}
		if at == len(sessions) || envelope != nil && envelopeOf != base {
			c.fail("bundle", "%v: %q is of no session, or not in its place", ErrFormat, member)
			return
		}
		missing(at)
		c.recording(sessions[at], r, envelope)
		next, envelope = at+1, nil
	}
	if envelope != nil {
		c.fail("bundle", "%v: an envelope without its recording", ErrFormat)
	}
	missing(len(sessions))
}

// absent judges a session whose stream the bundle doesn't hold.
func (c *checker) absent(s *ledger.Session) {
	if c.o.Only != "" && s.ID != c.o.Only {
		c.note("the recording of %s was not looked at", s.ID)
		return
	}
	head, _ := s.Head()
	c.v.Recordings = append(c.v.Recordings, RecordingVerdict{Session: s.ID})
	switch {
	case s.Stored != nil:
		c.fail("recording "+string(s.ID), "missing: entry %d says that it is stored", s.StoredIndex)
	case head != nil:
		c.until = append(c.until, fmt.Sprintf("%s: session %s was over, its recording is not stored yet", clock(s.OverTime), s.ID))
	default:
		c.until = append(c.until, fmt.Sprintf("%s: session %s has no end in the ledger", clock(s.OpenedTime), s.ID))
	}
}

// recording judges one stream against the session's entries.
func (c *checker) recording(s *ledger.Session, r io.Reader, envelope []byte) {
	where := "recording " + string(s.ID)
	whole := &counted{h: sha256.New()}
	r = io.TeeReader(r, whole)
	rv := RecordingVerdict{Session: s.ID}
	defer func() { c.v.Recordings = append(c.v.Recordings, rv) }()
	first, h, err := firstFrame(r)
	if err != nil {
		c.fail(where, "%v", err)
		return
	}
	c.header(where, s, &h)
	head, env := s.Head()
	if head == nil {
		c.fail(where, "the jump never reported its end")
		return
	}
	if statement.Hash(h.Env) != env {
		c.fail(where, "its header names another envelope than the jump's fact")
	}
	if s.Stored == nil {
		c.fail(where, "no entry says that it was stored")
	}
	final := transcript.Head{Frames: uint64(head.Frames), Chain: transcript.Hash(head.Chain)}
	o := transcript.VerifyOptions{Final: &final, Bytes: map[uint64]int64{}}
	for _, a := range s.Heads {
		o.Heads = append(o.Heads, transcript.Head{Frames: uint64(a.Frames), Chain: transcript.Hash(a.Chain)})
		o.Bytes[uint64(a.Frames)] = a.Bytes
	}
	if envelope != nil {
		o.Key = c.key(where, s, h, envelope)
	}
	res, err := transcript.Verify(io.MultiReader(bytes.NewReader(first), r), o)
	rv.Opened, rv.Ended, rv.Records, rv.Frames, rv.Bytes = res.Opened, res.Ended, res.Records, res.Head.Frames, res.Bytes
	if err != nil {
		c.fail(where, "%v", err)
		return
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		c.fail(where, "%v", err)
		return
	}
	if whole.n != head.Bytes || s.Stored != nil && statement.Hash(whole.h.Sum(nil)) != s.Stored.SHA256 {
		c.fail(where, "%d bytes are not the %d that were stored", whole.n, head.Bytes)
		return
	}
	c.sealed = c.sealed || !res.Opened
	how := "sealed"
	if res.Opened {
		how = fmt.Sprintf("opened: %d bytes in, %d out", res.BytesIn, res.BytesOut)
	}
	switch {
	case s.Ended != nil && !res.Ended:
		c.fail(where, "the jump says that it ended, the stream has no end")
		return
	case s.Ended != nil && res.Opened && (int64(res.BytesIn) != s.Ended.BytesIn || int64(res.BytesOut) != s.Ended.BytesOut):
		c.fail(where, "holds %d bytes in and %d out, the jump reported %d and %d", res.BytesIn, res.BytesOut, s.Ended.BytesIn, s.Ended.BytesOut)
		return
	case s.Crashed != nil:
		rv.Until = s.OpenedTime
		last := "record " + fmt.Sprint(res.Records)
		if res.Opened {
			rv.Until = time.UnixMicro(h.T0).Add(res.Until)
			last = clock(rv.Until)
		}
		c.until = append(c.until, fmt.Sprintf("%s: the recorder of session %s died there", last, s.ID))
		c.ok("recording", "%s: %d records, %d bytes, chain and head agree, %s; no end: the recorder died", s.ID, res.Records, res.Bytes, how)
		return
	}
	c.ok("recording", "%s: %d records, %d bytes, chain and head agree, end %s, %s", s.ID, res.Records, res.Bytes, clock(s.OverTime), how)
}

// key opens the envelope, if an identity does.
func (c *checker) key(where string, s *ledger.Session, h transcript.Header, envelope []byte) *transcript.Key {
	if transcript.SHA256(envelope) != h.Env {
		c.fail(where, "the envelope is not the one that the header names")
		return nil
	}
	if len(s.Reads) == 0 {
		c.fail(where, "its envelope was handed out without an entry")
	}
	if len(c.o.Identities) == 0 {
		return nil
	}
	k, err := transcript.OpenEnvelope(h, envelope, c.o.Identities...)
	if errors.Is(err, transcript.ErrNotRecipient) {
		c.note("%s is not sealed to the identity given", s.ID)
		return nil
	}
	if err != nil {
		c.fail(where, "%v", err)
		return nil
	}
	return &k
}

// header holds what a stream says of itself against the entry that it binds to.
func (c *checker) header(where string, s *ledger.Session, h *transcript.Header) {
	sub := s.Subject
	if statement.Hash(h.Bind) != s.EntryHash {
		c.fail(where, "binds to another entry than %d (session.opened)", s.OpenedIndex)
	}
	if h.Session != s.ID || h.Jump != sub.Jump || h.Origin != c.head.Origin || h.Person != sub.Person || h.Login != sub.Login || h.Host != sub.Host {
		c.fail(where, "its header is of %s: %s as %s@%s through %s", h.Session, h.Person, h.Login, h.Host, h.Jump)
	}
	if h.Prev.Size > 0 {
		if err := c.linked(statement.Checkpoint{Size: h.Prev.Size, Root: statement.Hash(h.Prev.Hash)}); err != nil {
			c.fail(where, "the jump saw another history: %v", err)
		}
	}
}

// firstFrame reads the header's frame and keeps its bytes.
func firstFrame(r io.Reader) ([]byte, transcript.Header, error) {
	l := make([]byte, 4)
	if _, err := io.ReadFull(r, l); err != nil {
		return nil, transcript.Header{}, &transcript.FrameError{Err: transcript.ErrTruncated}
	}
	n := binary.BigEndian.Uint32(l)
	if n > transcript.MaxHeader+1 {
		return nil, transcript.Header{}, &transcript.FrameError{Err: fmt.Errorf("%w: header of %d bytes", transcript.ErrHeader, n)}
	}
	frame := append(l, make([]byte, n)...)
	if _, err := io.ReadFull(r, frame[4:]); err != nil {
		return nil, transcript.Header{}, &transcript.FrameError{Err: transcript.ErrTruncated}
	}
	rd, err := transcript.NewReader(bytes.NewReader(frame))
	if err != nil {
		return nil, transcript.Header{}, err
	}
	return frame, rd.Header(), nil
}

type counted struct {
	h hash.Hash
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.h.Write(p)
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func unsafe(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}
