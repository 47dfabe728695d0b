package ledger_test

import (
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// BenchmarkAudit is the audit of a log of whole grants: each is eight entries (request, decision, certificate, session, two heads, end, stored) with a hardware key's
// signature, four facts signed by a jump, and a certificate. s/million is what a million such entries take.
func BenchmarkAudit(b *testing.B) {
	s := tell(b)
	for i := range 400 {
		g := s.Grant(s.alice, nil)
		s.session = s.Open(g, s.jump, []string{bobsAge}, []name.Person{"bob"})
		s.Now = s.Now.Add(time.Second)
		s.head(1, 10)
		s.head(2, 20)
		end := &ledger.SessionEnded{Reason: "closed", Exit: "0", Seconds: 60, BytesIn: int64(i), BytesOut: 2,
			Head: ledger.Head{Frames: 3, Chain: ledger.EntryHash([]byte("chain")), Bytes: 40}, Envelope: ledger.EntryHash([]byte("envelope"))}
		s.Fact(s.jump, s.session.Subject, end)
		s.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s.session.Subject, Facts: &ledger.TranscriptStored{Head: end.Head, SHA256: ledger.EntryHash([]byte("stream")), Envelope: end.Envelope}})
	}
	signed := s.Checkpoint()
	for b.Loop() {
		r, err := ledger.Verify(ledgertest.All(s.Entries), signed, s.VKey)
		if err != nil || !r.OK() {
			b.Fatal(err, r.Findings)
		}
	}
	per := b.Elapsed().Seconds() / float64(b.N) / float64(len(s.Entries))
	b.ReportMetric(per*1e6, "s/million")
	b.ReportMetric(float64(len(s.Entries)), "entries")
}
