package evidence

import (
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// emergency is a world whose rule wants two approvals.
func emergency(t testing.TB) (w *world, carol *ledgertest.Person) {
	w = begin(t)
	carol = w.Enrol("carol")
	w.Adopt(ledgertest.Emergency, w.Alice)
	return w, carol
}

// wait opens alice's request, which a bundle will be about.
func (w *world) wait() *ledgertest.Waiting {
	r := w.Wait(w.Alice, 2, []name.Person{"bob", "carol"}, nil)
	w.Granted = &r.Grant
	return r
}

// TestAVerdictNamesWhoApproved, and what was overridden or extended; and it counts by the policy, not by what an entry says was wanted.
func TestAVerdictNamesWhoApproved(t *testing.T) {
	both := []name.Person{"bob", "carol"}
	for _, c := range []struct {
		what string
		make func(w *world, carol *ledgertest.Person)
		line string
		says []string
	}{
		{"two approvals", func(w *world, carol *ledgertest.Person) {
			r := w.wait()
			w.Approve(w.Bob, r, statement.Deny, func(a *statement.Approval) { a.Comment = "is it not the backup?" })
			w.Approve(w.Bob, r, statement.Approve, nil)
			w.Approve(carol, r, statement.Approve, nil)
			w.Allow(r, both, 0)
			w.Record(t, "")
		}, "VERIFIED sealed", []string{`approval    bob said no, soft (counter `, `"is it not the backup?"`, "approval    carol approved, soft (counter ", "over the hash of the request and checkpoint"}},
		{"an override", func(w *world, carol *ledgertest.Person) {
			r := w.wait()
			w.Now = w.Now.Add(9 * time.Minute)
			w.Approve(carol, r, statement.Approve, nil)
			w.Override(w.Alice, r, 1, nil)
			w.Allow(r, []name.Person{"carol"}, 1)
		}, "VERIFIED", []string{"OVERRIDE    1 of 2 approvals were missing after 10:00 min: signed for by alice's soft", "carol approved"}},
		{"an extension", func(w *world, carol *ledgertest.Person) {
			r := w.wait()
			w.Approve(w.Bob, r, statement.Approve, nil)
			w.Approve(carol, r, statement.Approve, nil)
			w.Allow(r, both, 0)
			w.Now = w.Now.Add(20 * time.Minute)
			ext := w.Wait(w.Alice, 2, both, func(q *statement.Request) { q.Request, q.Of = statement.RequestExtend, r.Statement.ID })
			w.Approve(w.Bob, ext, statement.Approve, nil)
			w.Approve(carol, ext, statement.Approve, nil)
			w.Extend(r, ext, both)
			w.Now = w.Now.Add(20 * time.Minute)
			w.Record(t, "")
		}, "VERIFIED sealed", []string{"extension   ", `rule "test", 30 min more, until 2026-11-24 03:51:00Z`}},
		{"a request that nobody decided", func(w *world, _ *ledgertest.Person) { w.wait() }, "VERIFIED-UNTIL 2026-11-24 03:31:00Z: request", []string{"waited for 2 approvals"}},

		{"fewer than the rule wants, whatever the entry says", func(w *world, _ *ledgertest.Person) {
			r := w.wait()
			r.Wants = 1
			w.Approve(w.Bob, r, statement.Approve, nil)
			w.Allow(r, []name.Person{"bob"}, 0)
		}, `FAILED entry`, []string{`decided on 1 approvals: rule "test" wants 2`}},
		{"at once, where the rule wants two", func(w *world, _ *ledgertest.Person) { w.Granted = w.Grant(w.Alice, nil) }, "FAILED entry", []string{`decided on 0 approvals: rule "test" wants 2`}},
		{"an extension on fewer", func(w *world, carol *ledgertest.Person) {
			r := w.wait()
			w.Approve(w.Bob, r, statement.Approve, nil)
			w.Approve(carol, r, statement.Approve, nil)
			w.Allow(r, both, 0)
			w.Now = w.Now.Add(time.Minute)
			ext := w.Wait(w.Alice, 1, both, func(q *statement.Request) { q.Request, q.Of = statement.RequestExtend, r.Statement.ID })
			w.Approve(w.Bob, ext, statement.Approve, nil)
			w.Extend(r, ext, []name.Person{"bob"})
		}, "FAILED extension", []string{`decided on 1 approvals`}},
		{"somebody whom the rule does not name", func(w *world, carol *ledgertest.Person) {
			dan := w.Enrol("dan")
			r := w.wait()
			w.Approve(dan, r, statement.Approve, nil)
			w.Approve(carol, r, statement.Approve, nil)
			w.Allow(r, []name.Person{"dan", "carol"}, 0)
		}, "FAILED entry", []string{`approved by dan, whom rule "test" does not name`}},
	} {
		t.Run(c.what, func(t *testing.T) {
			w, carol := emergency(t)
			c.make(w, carol)
			v := w.verify(w.bundle(t, nil))
			out := text(t, v)
			if !strings.HasPrefix(out, c.line) {
				t.Errorf("%s", out)
			}
			for _, s := range c.says {
				if !strings.Contains(out, s) {
					t.Errorf("does not say %q:\n%s", s, out)
				}
			}
		})
	}
}

// TestABundleWithoutItsApprovalsFails: whoever leaves out an approval, or what made one count, is found out.
func TestABundleWithoutItsApprovalsFails(t *testing.T) {
	w, carol := emergency(t)
	r := w.wait()
	w.Approve(w.Bob, r, statement.Approve, nil)
	w.Approve(carol, r, statement.Approve, nil)
	w.Allow(r, []name.Person{"bob", "carol"}, 0)
	if v := w.verify(w.bundle(t, nil)); v.Result != Verified {
		t.Fatal(text(t, v))
	}
	for what, drop := range map[string]func(*ledger.Entry) bool{
		"carol's approval": func(e *ledger.Entry) bool { return e.Type() == "approval.given" && e.Subject.Person == "carol" },
		"carol's key":      func(e *ledger.Entry) bool { return e.Type() == "key.enrolled" && e.Subject.Person == "carol" },
		"the request":      func(e *ledger.Entry) bool { return e.Type() == "request.opened" },
		"the decision":     func(e *ledger.Entry) bool { return e.Type() == "grant.allowed" },
	} {
		v := w.verify(w.write(t, nil, func(e *Evidence, _ *[]Recording) {
			var left []Entry
			for _, p := range e.Entries {
				if x, err := ledger.Decode([]byte(p.Entry)); err != nil || !drop(x) {
					left = append(left, p)
				}
			}
			e.Entries = left
		}))
		if v.Result != Failed {
			t.Errorf("without %s:\n%s", what, text(t, v))
		}
	}
}
