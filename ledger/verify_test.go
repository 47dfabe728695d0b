package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

const bobsAge = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// story is a log in which everything is right: alice breaks the glass twice, bob reads.
type story struct {
	*ledgertest.Log
	alice, bob *ledgertest.Person
	jump       *ledgertest.Jump
	first      *ledgertest.Grant
	session    *ledgertest.Session
	ended      *ledger.SessionEnded
}

func tell(t testing.TB) *story {
	t.Helper()
	s := &story{Log: ledgertest.New(t)}
	s.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.CAStarted{Version: "test"}})
	s.alice, s.bob = s.Enrol("alice"), s.Enrol("bob")
	s.jump = s.Join("jump-a")
	s.Recipient(s.bob, bobsAge)
	s.Now = s.Now.Add(time.Minute)
	s.first = s.Grant(s.alice, nil)
	s.session = s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
	s.Fact(s.jump, ledger.Subject{Jump: "jump-a"}, &ledger.StrangersSummed{From: ledger.At(s.Now), To: ledger.At(s.Now.Add(time.Minute)), Counts: []ledger.StrangerCount{}})
	s.Now = s.Now.Add(time.Minute)
	s.head(1, 10)
	s.head(2, 20)
	s.ended = &ledger.SessionEnded{Reason: "closed", Exit: "0", Seconds: 60, BytesIn: 1, BytesOut: 2,
		Head: ledger.Head{Frames: 3, Chain: ledger.EntryHash([]byte("chain")), Bytes: 40}, Envelope: ledger.EntryHash([]byte("envelope"))}
	s.Fact(s.jump, s.session.Subject, s.ended)
	s.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s.session.Subject,
		Facts: &ledger.TranscriptStored{Head: s.ended.Head, SHA256: ledger.EntryHash([]byte("stream")), Envelope: s.ended.Envelope}})
	pass := s.Pass(s.bob)
	s.Append(&ledger.Entry{Actor: ledger.PersonActor("bob"), Subject: s.session.Subject, Facts: &ledger.TranscriptRead{Pass: pass, Why: "review"}})
	s.Grant(s.alice, nil)
	s.deny(s.Request(s.alice, ledgertest.NewKey(t).PublicKey()))
	return s
}

// head is one of the running session's stream.
func (s *story) head(frames, bytes int64) {
	s.Fact(s.jump, s.session.Subject, &ledger.SessionHead{Head: ledger.Head{Frames: frames, Chain: ledger.EntryHash(fmt.Append(nil, frames)), Bytes: bytes}})
}

// heads is a second session, with these of its stream.
func (s *story) heads(hs ...[2]int64) {
	s.session = s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
	for _, h := range hs {
		s.head(h[0], h[1])
	}
}

// deny is a request without PIN, which the policy refuses: one entry holds statement and reasons.
func (s *story) deny(r *statement.Request) {
	text, sig := s.alice.TouchOnly(r)
	s.Append(&ledger.Entry{Actor: ledger.PersonActor("alice"), Subject: ledger.Subject{Request: r.ID, Person: "alice", Host: r.Host, Login: r.Login}, Statement: text, SSHSIG: sig,
		Facts: &ledger.RequestDenied{Reasons: []ledger.Reason{{Code: "no_pin", Detail: "x"}}, Used: ledger.Used{Touch: s.Touch(s.alice, sig)}}})
}

func (s *story) report(t testing.TB) *ledger.Report {
	t.Helper()
	r, err := ledger.Verify(ledgertest.All(s.Entries), s.Checkpoint(), s.VKey)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifyGood(t *testing.T) {
	s := tell(t)
	r := s.report(t)
	if err := r.Err(); err != nil {
		t.Fatalf("%v\n%v", err, r.Findings)
	}
	if r.Entries != int64(len(s.Entries)) || r.Keys != 2 || r.Grants != 2 || r.Sessions != 1 || r.Site.Origin != ledgertest.Origin {
		t.Errorf("%+v", r)
	}
	boom := errors.New("disk gone")
	if _, err := ledger.Verify(func(yield func([]byte, error) bool) { yield(nil, boom) }, s.Checkpoint(), s.VKey); !errors.Is(err, boom) {
		t.Errorf("a copy that can't be read: %v", err)
	}
}

// TestVerifyByte changes each byte of every entry in turn.
func TestVerifyByte(t *testing.T) {
	s := tell(t)
	signed := s.Checkpoint()
	for i := range s.Entries {
		step := 1 + len(s.Entries[i])/25 // every entry, spread over its whole length
		for at := i % step; at < len(s.Entries[i]); at += step {
			es := slices.Clone(s.Entries)
			es[i] = bytes.Clone(es[i])
			es[i][at] ^= 1
			r, err := ledger.Verify(ledgertest.All(es), signed, s.VKey)
			if err != nil {
				t.Fatal(err)
			}
			if !has(r, ledger.FaultRoot) {
				t.Fatalf("byte %d of entry %d changed: %v", at, i, r.Findings)
			}
		}
	}
}

func TestVerifyMangled(t *testing.T) {
	s := tell(t)
	signed := s.Checkpoint()
	_, foreign, err := ledger.GenerateKey(ledgertest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	last := len(s.Entries) - 1
	for what, c := range map[string]struct {
		entries [][]byte
		signed  string
		vkey    string
		code    ledger.Code
	}{
		"an entry removed":        {slices.Delete(slices.Clone(s.Entries), 5, 6), signed, s.VKey, ledger.FaultCheckpoint},
		"the last removed":        {s.Entries[:last], signed, s.VKey, ledger.FaultCheckpoint},
		"two swapped":             {swap(s.Entries, 6, 8), signed, s.VKey, ledger.FaultRoot},
		"one added":               {append(slices.Clone(s.Entries), s.Entries[3]), signed, s.VKey, ledger.FaultCheckpoint},
		"one twice, one left out": {append(slices.Clone(s.Entries[:last]), s.Entries[3]), signed, s.VKey, ledger.FaultRoot},
		"nothing left":            {nil, signed, s.VKey, ledger.FaultOrder},
		"a changed checkpoint":    {s.Entries, strings.Replace(signed, "\n2", "\n3", 1), s.VKey, ledger.FaultCheckpoint},
		"no checkpoint":           {s.Entries, "", s.VKey, ledger.FaultCheckpoint},
		"a foreign key":           {s.Entries, signed, foreign, ledger.FaultCheckpoint},
	} {
		r, err := ledger.Verify(ledgertest.All(c.entries), c.signed, c.vkey)
		if err != nil {
			t.Fatal(what, err)
		}
		if !has(r, c.code) {
			t.Errorf("%s: %v", what, r.Findings)
		}
	}
}

// TestVerifyRewritten is a log whose holder writes what they like and signs it with the true ledger key: what they lack is other people's keys.
func TestVerifyRewritten(t *testing.T) {
	edit := func(typ ledger.Type, f func(*ledger.Entry)) func(*story) {
		return func(s *story) {
			old := s.Entries
			s.Entries, s.Tree = nil, &ledger.Memory{}
			n := 0
			for _, raw := range old {
				e, err := ledger.Decode(raw)
				if err != nil {
					t.Fatal(err)
				}
				if e.Type() == typ {
					f(e)
					n++
					if raw, err = ledger.Encode(e); err != nil {
						t.Fatal(err)
					}
				}
				s.AppendRaw(raw)
			}
			if n == 0 {
				t.Fatal("no entry of type", typ)
			}
		}
	}
	drop := func(typ ledger.Type) func(*story) {
		return func(s *story) {
			old := s.Entries
			s.Entries, s.Tree = nil, &ledger.Memory{}
			for _, raw := range old {
				if e, err := ledger.Decode(raw); err != nil {
					t.Fatal(err)
				} else if e.Type() != typ {
					s.AppendRaw(raw)
				}
			}
		}
	}
	add := func(f func(s *story)) func(*story) { return f }
	for what, c := range map[string]struct {
		do   func(*story)
		code ledger.Code
	}{
		"another reason in the statement": {edit("request.opened", func(e *ledger.Entry) { e.Statement = strings.Replace(e.Statement, "serves 500", "is slow", 1) }), ledger.FaultSignature},
		"a statement that is none":        {edit("request.opened", func(e *ledger.Entry) { e.Statement += "more: yes\n" }), ledger.FaultStatement},
		"no signature":                    {edit("request.opened", func(e *ledger.Entry) { e.SSHSIG = "" }), ledger.FaultSignature},
		"no statement":                    {edit("request.opened", func(e *ledger.Entry) { e.Statement = "" }), ledger.FaultSignature},
		"another host than signed for":    {edit("request.opened", func(e *ledger.Entry) { e.Subject.Host = "db01" }), ledger.FaultStatement},
		"another counter":                 {edit("request.opened", func(e *ledger.Entry) { e.Facts.(*ledger.RequestOpened).Touch.Counter++ }), ledger.FaultTouch},
		"a request left out":              {drop("request.opened"), ledger.FaultGrant},
		"a grant left out":                {drop("grant.allowed"), ledger.FaultGrant},
		"a longer grant":                  {edit("grant.allowed", func(e *ledger.Entry) { e.Facts.(*ledger.GrantAllowed).Minutes = 600 }), ledger.FaultGrant},
		"a later end": {edit("grant.allowed", func(e *ledger.Entry) {
			f := e.Facts.(*ledger.GrantAllowed)
			f.Until = ledger.At(f.Until.Add(time.Hour))
		}), ledger.FaultGrant},
		"a forward nobody asked for":      {edit("grant.allowed", func(e *ledger.Entry) { e.Facts.(*ledger.GrantAllowed).Forwards = []string{"local db01:5432"} }), ledger.FaultGrant},
		"another policy decided":          {edit("grant.allowed", func(e *ledger.Entry) { e.Facts.(*ledger.GrantAllowed).Used.Policy[0] ^= 1 }), ledger.FaultPolicy},
		"another policy text":             {edit("policy.adopted", func(e *ledger.Entry) { e.Facts.(*ledger.PolicyAdopted).Text += "#" }), ledger.FaultPolicy},
		"a certificate's serial":          {edit("certificate.issued", func(e *ledger.Entry) { e.Facts.(*ledger.CertificateIssued).Serial++ }), ledger.FaultCertificate},
		"a certificate left out":          {drop("certificate.issued"), ledger.FaultCertificate},
		"a session's host":                {edit("session.opened", func(e *ledger.Entry) { e.Subject.Host = "db01" }), ledger.FaultSession},
		"a session's peer":                {edit("session.opened", func(e *ledger.Entry) { e.Facts.(*ledger.SessionOpened).Peer = "203.0.113.10" }), ledger.FaultSession},
		"a session's key":                 {edit("session.opened", func(e *ledger.Entry) { e.Facts.(*ledger.SessionOpened).Key = "ssh-ed25519 AAAA" }), ledger.FaultSession},
		"a session without host keys":     {edit("session.opened", func(e *ledger.Entry) { e.Facts.(*ledger.SessionOpened).HostKeys = nil }), ledger.FaultSession},
		"a session sealed to nobody":      {edit("session.opened", func(e *ledger.Entry) { e.Facts.(*ledger.SessionOpened).Recipients = nil }), ledger.FaultSession},
		"a session sealed to another":     {edit("session.opened", func(e *ledger.Entry) { e.Facts.(*ledger.SessionOpened).Recipients[0] = "age1other" }), ledger.FaultSession},
		"a session left out":              {drop("session.opened"), ledger.FaultSession},
		"another end of the session":      {edit("session.ended", func(e *ledger.Entry) { e.Facts.(*ledger.SessionEnded).Seconds = 1 }), ledger.FaultFact},
		"a fact left out":                 {drop("strangers.summed"), ledger.FaultGap},
		"a gap that was admitted":         {add(func(s *story) { gap(s) }), ledger.FaultGap},
		"the end left out":                {drop("session.ended"), ledger.FaultTranscript},
		"another stream stored":           {edit("transcript.stored", func(e *ledger.Entry) { e.Facts.(*ledger.TranscriptStored).Head.Chain[0] ^= 1 }), ledger.FaultTranscript},
		"a pass left out":                 {drop("pass.granted"), ledger.FaultPass},
		"an enrolment left out":           {drop("key.enrolled"), ledger.FaultSignature},
		"another name on a key":           {edit("key.enrolled", func(e *ledger.Entry) { e.Facts.(*ledger.KeyEnrolled).Name = "x" }), ledger.FaultStatement},
		"a key of somebody else":          {edit("key.enrolled", func(e *ledger.Entry) { e.Subject.Person = "mallory" }), ledger.FaultSignature},
		"a jump that never joined":        {drop("jump.joined"), ledger.FaultSite},
		"a site under another ledger key": {edit("site.changed", func(e *ledger.Entry) { e.Facts.(*ledger.SiteChanged).Site.LedgerKey = "x+1+y" }), ledger.FaultSite},
		"history before a signature":      {edit("ca.started", func(e *ledger.Entry) { e.Facts.(*ledger.CAStarted).Version = "other" }), ledger.FaultHistory},
		"a denial of something else":      {edit("request.denied", func(e *ledger.Entry) { e.Subject.Host = "db01" }), ledger.FaultStatement},
		"a denial without a reason":       {edit("request.denied", func(e *ledger.Entry) { e.Facts.(*ledger.RequestDenied).Reasons = nil }), ledger.FaultGrant},
		"a denial after the grant":        {add(func(s *story) { s.deny(&s.first.Statement) }), ledger.FaultReplay},
		"a denial that nobody signed":     {edit("request.denied", func(e *ledger.Entry) { e.Statement, e.SSHSIG = "", "" }), ledger.FaultOrder},
		"a second beginning":              {add(func(s *story) { s.AppendRaw(s.Entries[0]) }), ledger.FaultOrder},
		"a session twice":                 {add(func(s *story) { s.AppendRaw(s.session.Entry) }), ledger.FaultReplay},
		"a grant twice":                   {add(func(s *story) { s.AppendRaw(s.find(t, "grant.allowed")) }), ledger.FaultGrant},
		"a request twice":                 {add(func(s *story) { s.AppendRaw(s.find(t, "request.opened")) }), ledger.FaultReplay},
		"a request without touch":         {add(func(s *story) { silent(s) }), ledger.FaultTouch},
		"a request of a stranger's key":   {add(func(s *story) { other := *s.bob; other.Name = "alice"; s.Grant(&other, nil) }), ledger.FaultSignature},
		"a request with a suspended key":  {add(func(s *story) { suspended(s) }), ledger.FaultSignature},
		"a request for another origin":    {add(func(s *story) { s.Grant(s.alice, func(r *statement.Request) { r.Origin = "other.test" }) }), ledger.FaultStatement},
		"a request signed long before":    {add(func(s *story) { s.Grant(s.alice, func(r *statement.Request) { r.Expires = s.Now.Add(-time.Hour) }) }), ledger.FaultStatement},
		"a session after the grant's end": {add(func(s *story) {
			s.Now = s.Now.Add(time.Hour)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}), ledger.FaultGrant},
		"a certificate by another CA": {add(func(s *story) { s.ClientCA = ledgertest.NewKey(t); s.Grant(s.alice, nil) }), ledger.FaultCertificate},
		"a session certificate by another": {add(func(s *story) {
			s.SessionCA = ledgertest.NewKey(t)
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}), ledger.FaultCertificate},
		"a session certificate that reaches further than the entry says": {add(func(s *story) {
			s.Slack = time.Hour
			s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		}), ledger.FaultCertificate},
		"the end of a session told twice":   {add(func(s *story) { s.Fact(s.jump, s.session.Subject, s.ended) }), ledger.FaultSession},
		"a head of fewer frames":            {add(func(s *story) { s.heads([2]int64{5, 50}, [2]int64{4, 60}) }), ledger.FaultTranscript},
		"a head of fewer bytes":             {add(func(s *story) { s.heads([2]int64{5, 50}, [2]int64{6, 40}) }), ledger.FaultTranscript},
		"a head of more frames and no more": {add(func(s *story) { s.heads([2]int64{5, 50}, [2]int64{6, 50}) }), ledger.FaultTranscript},
		"a head twice":                      {add(func(s *story) { s.heads([2]int64{5, 50}, [2]int64{5, 50}) }), ledger.FaultTranscript},
		"a head of nothing":                 {add(func(s *story) { s.heads([2]int64{0, 0}) }), ledger.FaultTranscript},
		"a head of a session that is over":  {add(func(s *story) { s.head(9, 90) }), ledger.FaultSession},
		"a head of no session": {add(func(s *story) {
			s.session.Subject.Session = "k7f-2mq/9"
			s.head(9, 90)
		}), ledger.FaultSession},
		"an end before the last head": {add(func(s *story) {
			s.heads([2]int64{5, 50})
			s.Fact(s.jump, s.session.Subject, &ledger.SessionCrashed{Head: ledger.Head{Frames: 4, Bytes: 50}})
		}), ledger.FaultTranscript},
		"another chain at the last head": {add(func(s *story) {
			s.heads([2]int64{5, 50})
			s.Fact(s.jump, s.session.Subject, &ledger.SessionCrashed{Head: ledger.Head{Frames: 5, Bytes: 50}})
		}), ledger.FaultTranscript},
		"another head than signed": {edit("session.head", func(e *ledger.Entry) { e.Facts.(*ledger.SessionHead).Head.Bytes++ }), ledger.FaultFact},
		"heads left out":           {drop("session.head"), ledger.FaultGap},
		"a key by another jump": {add(func(s *story) {
			s.jump.Key = ledgertest.NewKey(t)
			s.Fact(s.jump, ledger.Subject{}, &ledger.StrangersSummed{})
		}), ledger.FaultSignature},
		"an entry with a field twice": {add(func(s *story) { s.AppendRaw([]byte(strings.Replace(string(s.Entries[3]), `"v":1`, `"v":1,"v":1`, 1))) }), ledger.FaultMalformed},
		"text that is no entry":       {add(func(s *story) { s.AppendRaw([]byte("x")) }), ledger.FaultMalformed},
	} {
		s := tell(t)
		c.do(s)
		if r := s.report(t); !has(r, c.code) || has(r, ledger.FaultRoot) {
			t.Errorf("%s: %v", what, r.Findings)
		}
	}
}

func TestFindingsAreBounded(t *testing.T) {
	s := tell(t)
	for range ledger.MaxFindings + 10 {
		s.AppendRaw([]byte("x"))
	}
	r := s.report(t)
	if len(r.Findings) != ledger.MaxFindings || r.More != 10 || !strings.Contains(r.Err().Error(), "and 109 more") {
		t.Errorf("%d, %d more, %v", len(r.Findings), r.More, r.Err())
	}
	if b, err := json.Marshal(r.Findings[0]); err != nil || !strings.Contains(string(b), `"code":"malformed"`) {
		t.Errorf("%s %v", b, err)
	}
}

func (s *story) find(t *testing.T, typ ledger.Type) []byte {
	for _, raw := range s.Entries {
		if e, err := ledger.Decode(raw); err == nil && e.Type() == typ {
			return raw
		}
	}
	t.Fatal("no entry of type", typ)
	return nil
}

// silent is a request whose signature verifies, made without a touch.
func silent(s *story) {
	key := ledgertest.NewKey(s.T)
	st := s.Request(s.alice, key.PublicKey())
	text, sig := s.alice.Silent(st)
	s.GrantSigned(s.alice, &ledgertest.Grant{Key: key}, st, text, sig)
}

func suspended(s *story) {
	s.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: ledger.Subject{Person: "alice", Key: s.alice.Fingerprint}, Facts: &ledger.KeySuspended{Why: "counter"}})
	s.Grant(s.alice, nil)
}

// gap is a jump whose fact 3 was lost, which the CA admits.
func gap(s *story) {
	s.jump.Number++
	s.jump.Previous = sha256.Sum256([]byte("lost"))
	s.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: ledger.Subject{Jump: "jump-a"}, Facts: &ledger.JumpGap{Have: 2, Got: 4}})
	s.Fact(s.jump, ledger.Subject{}, &ledger.StrangersSummed{})
}

func swap(es [][]byte, i, j int) [][]byte {
	out := slices.Clone(es)
	out[i], out[j] = out[j], out[i]
	return out
}

func has(r *ledger.Report, c ledger.Code) bool {
	return slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Code == c })
}
