package replay_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
	"breakglass/review/replay"
)

// TestForgedInquiries: each row is what somebody with the CA's keys writes down as asked, so that what they did comes out as the policy's answer.
func TestForgedInquiries(t *testing.T) {
	whole := &ledger.Entry{Facts: &ledger.PolicyAdopted{SHA256: hashOf(text), Text: text}}
	st := &statement.Request{Origin: "test", ID: "k7f-2mq", Request: statement.RequestNew, Person: "alice", Login: "root", Host: "web01", Minutes: 20,
		Reason: "the disk of the mail queue is full", Sources: []string{"203.0.113.9"}}
	opened := func(st *statement.Request) *ledger.Entry {
		signed, err := statement.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		return &ledger.Entry{Statement: string(signed), Subject: ledger.Subject{Request: st.ID}, Facts: &ledger.RequestOpened{}}
	}
	forge := func(change func(*policy.Inquiry, *ledger.GrantAllowed)) *ledger.Entry {
		e := allowed(t, text, "")
		f := e.Facts.(*ledger.GrantAllowed)
		var q policy.Inquiry
		if err := json.Unmarshal(f.Used.Asked, &q); err != nil {
			t.Fatal(err)
		}
		q.Request.Minutes, f.Minutes = 20, 20
		change(&q, f)
		var err error
		if f.Used.Asked, err = q.Text(); err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, c := range []struct {
		what   string
		change func(*policy.Inquiry, *ledger.GrantAllowed)
		finds  string // "": nothing
	}{
		{"as it was", func(*policy.Inquiry, *ledger.GrantAllowed) {}, ""},
		{"a ticket that nobody gave", func(q *policy.Inquiry, _ *ledger.GrantAllowed) { q.Request.Ticket = "INC-1" }, "ticket: it was nothing, the inquiry says INC-1"},
		{"a better reason", func(q *policy.Inquiry, _ *ledger.GrantAllowed) { q.Request.Reason += ", and mails are lost" }, "reason: it was"},
		{"a severity that nobody declared", func(q *policy.Inquiry, _ *ledger.GrantAllowed) { q.Request.Severity = "sev1" }, "severity: it was nothing"},
		{"a drill that was none", func(q *policy.Inquiry, _ *ledger.GrantAllowed) { q.Request.Drill = true }, "drill: it was false"},
		{"fewer minutes than were signed for", func(q *policy.Inquiry, f *ledger.GrantAllowed) { q.Request.Minutes, f.Minutes = 10, 10 }, "minutes: it was 20, the inquiry says 10"},
		{"a forward that was not signed for", func(q *policy.Inquiry, _ *ledger.GrantAllowed) {
			f, _ := policy.ParseForward("local db01:5432")
			q.Request.Forwards = []policy.Forward{f}
		}, "forwards asked for: it was []"},
		{"an hour at which the window is open", func(q *policy.Inquiry, _ *ledger.GrantAllowed) {
			q.Facts.Now = q.Facts.Now.Add(6 * time.Hour)
		}, "time: it was 2026-11-24T03:00:00Z, the inquiry says 2026-11-24T09:00:00Z"},
		{"a key that was not touched", func(_ *policy.Inquiry, f *ledger.GrantAllowed) { f.Used.Touch.Flags = 4 }, "touch: it was no, the inquiry says yes"},
		{"a PIN that nobody entered", func(_ *policy.Inquiry, f *ledger.GrantAllowed) { f.Used.Touch.Flags = 1 }, "PIN or finger: it was no, the inquiry says yes"},
		{"a code that nobody gave", func(q *policy.Inquiry, _ *ledger.GrantAllowed) { q.Facts.TOTP = policy.Yes }, "a code of the other channel: it was false"},
		{"another address than was signed for", func(q *policy.Inquiry, f *ledger.GrantAllowed) {
			q.Facts.Sources[0].Addr = netip.MustParseAddr("198.51.100.1")
			f.Used.Addresses[0].Address = "198.51.100.1"
		}, "addresses: alice signed for 203.0.113.9 too"},
		{"an extension", func(q *policy.Inquiry, _ *ledger.GrantAllowed) { q.Request.Kind = policy.KindExtend }, "kind: it was new, the inquiry says extend"},
	} {
		var p replay.Pass
		for i, e := range []*ledger.Entry{whole, opened(st), forge(c.change)} {
			p.Add(int64(i), e)
		}
		if found := strings.Join(p.Findings, "\n"); (c.finds == "") != (found == "") || !strings.Contains(found, c.finds) {
			t.Errorf("%s: found %q, want %q", c.what, found, c.finds)
		}
	}

	// One that is left out is told of; those from before there were any are not.
	silent := allowed(t, text, "")
	silent.Facts.(*ledger.GrantAllowed).Used.Asked = nil
	var p replay.Pass
	for i, e := range []*ledger.Entry{whole, silent, allowed(t, text, ""), silent} {
		p.Add(int64(i), e)
	}
	if !slices.Equal(p.Silent, []int64{3}) || p.Skipped != 2 {
		t.Errorf("silent %v, skipped %d", p.Silent, p.Skipped)
	}
}

// TestManyImportsTakeBoundedMemory: an operator who imports host after host, and asks once under each policy, doesn't keep anybody from verifying.
func TestManyImportsTakeBoundedMemory(t *testing.T) {
	var p replay.Pass
	p.Add(0, &ledger.Entry{Facts: &ledger.PolicyAdopted{SHA256: hashOf(text), Text: text}})
	now, hosts := text, ""
	for i := range 40 {
		host := strings.Replace(moreHosts, "web02", fmt.Sprintf("new%d", i), 1)
		hosts += host
		next, err := policytext.Import(text, hosts)
		if err != nil {
			t.Fatal(err)
		}
		p.Add(int64(2*i+1), &ledger.Entry{Facts: &ledger.PolicyImported{SHA256: hashOf(next), Previous: hashOf(now), Hosts: host}})
		p.Add(int64(2*i+2), allowed(t, next, ""))
		now = next
	}
	if p.Same != 40 || len(p.Findings) > 0 || p.Policies.Held() > 8 {
		t.Errorf("%d the same, %d policies held, %q", p.Same, p.Policies.Held(), p.Findings)
	}
}
