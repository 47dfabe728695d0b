package ledger_test

import (
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// court is a log in which people approve: alice asks, bob and carol may say yes.
type court struct {
	*ledgertest.Log
	alice, bob, carol *ledgertest.Person
}

func newCourt(t testing.TB) *court {
	c := &court{Log: ledgertest.New(t)}
	c.alice, c.bob, c.carol = c.Enrol("alice"), c.Enrol("bob"), c.Enrol("carol")
	return c
}

func (c *court) wait(n int) *ledgertest.Waiting {
	return c.Wait(c.alice, n, []name.Person{"bob", "carol"}, nil)
}

// granted is a grant on two approvals.
func (c *court) granted() *ledgertest.Waiting {
	w := c.wait(2)
	c.Approve(c.bob, w, statement.Approve, nil)
	c.Approve(c.carol, w, statement.Approve, nil)
	c.Allow(w, []name.Person{"bob", "carol"}, 0)
	return w
}

func (c *court) extension(of *ledgertest.Waiting, n int) *ledgertest.Waiting {
	return c.Wait(c.alice, n, []name.Person{"bob", "carol"}, func(r *statement.Request) {
		r.Request, r.Of = statement.RequestExtend, of.Statement.ID
	})
}

func (c *court) findings(t testing.TB) []ledger.Finding {
	t.Helper()
	r, err := ledger.Verify(ledgertest.All(c.Entries), c.Checkpoint(), c.VKey)
	if err != nil {
		t.Fatal(err)
	}
	return r.Findings
}

// TestAuditOfApprovals: what people did is no fault; what somebody who holds the log's key made of it is.
func TestAuditOfApprovals(t *testing.T) {
	both := []name.Person{"bob", "carol"}
	// edited rewrites the newest entry of a type, as who holds the log's key could.
	edited := func(c *court, typ ledger.Type, f func(*ledger.Entry)) {
		old := c.Entries
		c.Entries, c.Tree = nil, &ledger.Memory{}
		last := -1
		for i, raw := range old {
			if e, err := ledger.Decode(raw); err == nil && e.Type() == typ {
				last = i
			}
		}
		for i, raw := range old {
			if i == last {
				e, err := ledger.Decode(raw)
				if err != nil {
					t.Fatal(err)
				}
				f(e)
				if raw, err = ledger.Encode(e); err != nil {
					t.Fatal(err)
				}
			}
			c.AppendRaw(raw)
		}
		if last < 0 {
			t.Fatal("no entry of type", typ)
		}
	}
	for _, x := range []struct {
		what string
		do   func(c *court)
		code ledger.Code // "": no fault
	}{
		{"two approvals open a grant", func(c *court) { c.granted() }, ""},
		{"a no withdraws a yes, and a yes the no", func(c *court) {
			w := c.wait(1)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Approve(c.bob, w, statement.Deny, nil)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Allow(w, []name.Person{"bob"}, 0)
		}, ""},
		{"an override replaces what is missing", func(c *court) {
			w := c.wait(2)
			c.Now = c.Now.Add(9 * time.Minute)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Override(c.alice, w, 1, nil)
			c.Allow(w, []name.Person{"bob"}, 1)
		}, ""},
		{"an extension moves the end", func(c *court) {
			w := c.granted()
			c.Now = c.Now.Add(20 * time.Minute)
			ext := c.extension(w, 1)
			c.Approve(c.bob, ext, statement.Approve, nil)
			c.Extend(w, ext, []name.Person{"bob"})
			j := c.Join("jump-a")
			c.Recipient(c.bob, bobsAge)
			c.Now = c.Now.Add(20 * time.Minute) // after the first end
			c.Open(&w.Grant, j, []string{bobsAge}, []name.Person{"bob"})
		}, ""},

		{"a grant on fewer approvals than it says were wanted", func(c *court) {
			w := c.wait(2)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Allow(w, []name.Person{"bob"}, 0)
		}, ledger.FaultGrant},
		{"a grant that waited, on none", func(c *court) { w := c.wait(1); w.Wants = 0; c.Allow(w, nil, 0) }, ledger.FaultGrant},
		{"an approval counted that nobody gave", func(c *court) {
			w := c.wait(2)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Allow(w, both, 0)
		}, ledger.FaultGrant},
		{"one person counted twice", func(c *court) {
			w := c.wait(2)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Allow(w, []name.Person{"bob", "bob"}, 0)
		}, ledger.FaultGrant},
		{"a no counted as a yes", func(c *court) {
			w := c.wait(1)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Approve(c.bob, w, statement.Deny, nil)
			c.Allow(w, []name.Person{"bob"}, 0)
		}, ledger.FaultGrant},
		{"an approval by a key that was revoked since", func(c *court) {
			w := c.wait(1)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Revoke(c.alice, ledger.RevokedKey, c.bob.Fingerprint, time.Time{}, nil)
			c.Allow(w, []name.Person{"bob"}, 0)
		}, ledger.FaultKey},
		{"an approval counted after its time", func(c *court) {
			w := c.wait(1)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Now = c.Now.Add(11 * time.Minute)
			c.Allow(w, []name.Person{"bob"}, 0)
		}, ledger.FaultGrant},
		{"an approval that counts for too long", func(c *court) {
			c.Approve(c.bob, c.wait(1), statement.Approve, func(a *statement.Approval) { a.Until = a.Until.Add(time.Hour) })
		}, ledger.FaultStatement},
		{"an approval whose entry counts it for longer", func(c *court) {
			c.Approve(c.bob, c.wait(1), statement.Approve, nil)
			edited(c, "approval.given", func(e *ledger.Entry) {
				f := e.Facts.(*ledger.ApprovalGiven)
				f.Until = ledger.At(f.Until.Add(time.Hour))
			})
		}, ledger.FaultStatement},
		{"a no whose entry says yes", func(c *court) {
			c.Approve(c.bob, c.wait(1), statement.Deny, nil)
			edited(c, "approval.given", func(e *ledger.Entry) { e.Facts.(*ledger.ApprovalGiven).Verdict = statement.Approve })
		}, ledger.FaultStatement},
		{"a comment that was not signed", func(c *court) {
			c.Approve(c.bob, c.wait(1), statement.Deny, nil)
			edited(c, "approval.given", func(e *ledger.Entry) { e.Facts.(*ledger.ApprovalGiven).Comment = "because" })
		}, ledger.FaultStatement},
		{"a verdict that is none", func(c *court) { c.Approve(c.bob, c.wait(1), "perhaps", nil) }, ledger.FaultStatement},
		{"another touch than the signature's", func(c *court) {
			c.Approve(c.bob, c.wait(1), statement.Approve, nil)
			edited(c, "approval.given", func(e *ledger.Entry) { e.Facts.(*ledger.ApprovalGiven).Touch.Counter++ })
		}, ledger.FaultTouch},
		{"an approval that nobody signed", func(c *court) {
			c.Approve(c.bob, c.wait(1), statement.Approve, nil)
			edited(c, "approval.given", func(e *ledger.Entry) { e.Statement, e.SSHSIG = "", "" })
		}, ledger.FaultSignature},
		{"an approval moved to another person", func(c *court) {
			c.Approve(c.bob, c.wait(1), statement.Approve, nil)
			edited(c, "approval.given", func(e *ledger.Entry) { e.Subject.Person = "carol" })
		}, ledger.FaultStatement},
		{"an approval moved to another request", func(c *court) {
			w, other := c.wait(1), c.wait(1)
			c.Approve(c.bob, w, statement.Approve, nil)
			edited(c, "approval.given", func(e *ledger.Entry) { e.Subject.Request = other.Statement.ID })
		}, ledger.FaultStatement},
		{"an approval of another request's hash", func(c *court) {
			w, other := c.wait(1), c.wait(1)
			c.Approve(c.bob, w, statement.Approve, func(a *statement.Approval) { a.Hash = other.Signed })
		}, ledger.FaultStatement},
		{"an approval by the requester", func(c *court) { c.Approve(c.alice, c.wait(1), statement.Approve, nil) }, ledger.FaultGrant},
		{"an approval of a request that was let in at once", func(c *court) {
			g := c.Grant(c.alice, nil)
			c.Approve(c.bob, &ledgertest.Waiting{Grant: *g}, statement.Approve, nil)
		}, ledger.FaultOrder},
		{"an approval after the decision", func(c *court) {
			w := c.wait(1)
			c.Approve(c.bob, w, statement.Approve, nil)
			c.Allow(w, []name.Person{"bob"}, 0)
			c.Approve(c.carol, w, statement.Approve, nil)
		}, ledger.FaultGrant},
		{"an approval after the wait", func(c *court) {
			w := c.wait(1)
			c.Now = c.Now.Add(31 * time.Minute)
			c.Approve(c.bob, w, statement.Approve, nil)
		}, ledger.FaultGrant},
		{"approvals of a request that was decided at once", func(c *court) {
			c.Grant(c.alice, nil)
			edited(c, "grant.allowed", func(e *ledger.Entry) { e.Facts.(*ledger.GrantAllowed).Used.Approved = both })
		}, ledger.FaultGrant},
		{"a wait with another client key", func(c *court) {
			c.wait(1)
			edited(c, "request.opened", func(e *ledger.Entry) {
				e.Facts.(*ledger.RequestOpened).Waits.ClientKey = ledgertest.Line(ledgertest.NewKey(t).PublicKey())
			})
		}, ledger.FaultStatement},
		{"a wait that asks the requester", func(c *court) {
			c.wait(1)
			edited(c, "request.opened", func(e *ledger.Entry) {
				e.Facts.(*ledger.RequestOpened).Waits.Approvers = []name.Person{"alice"}
			})
		}, ledger.FaultGrant},
		{"a wait for nothing", func(c *court) {
			c.wait(1)
			edited(c, "request.opened", func(e *ledger.Entry) { e.Facts.(*ledger.RequestOpened).Waits.Approvals = 0 })
		}, ledger.FaultGrant},

		{"overridden without the requester's touch", func(c *court) { w := c.wait(1); c.Allow(w, nil, 1) }, ledger.FaultGrant},
		{"more overridden than was signed for", func(c *court) {
			w := c.wait(2)
			c.Override(c.alice, w, 1, nil)
			c.Allow(w, nil, 2)
		}, ledger.FaultGrant},
		{"an override by somebody else", func(c *court) { c.Override(c.bob, c.wait(1), 1, nil) }, ledger.FaultSignature},
		{"an override of another host", func(c *court) {
			c.Override(c.alice, c.wait(1), 1, func(r *statement.Request) { r.Host = "db01" })
		}, ledger.FaultStatement},
		{"an override for longer", func(c *court) {
			c.Override(c.alice, c.wait(1), 1, func(r *statement.Request) { r.Minutes = 600 })
		}, ledger.FaultStatement},
		{"an override with another ticket", func(c *court) {
			c.Override(c.alice, c.wait(1), 1, func(r *statement.Request) { r.Ticket = "INC-1" })
		}, ledger.FaultStatement},
		{"an override of another severity", func(c *court) {
			c.Override(c.alice, c.wait(1), 1, func(r *statement.Request) { r.Severity = "sev1" })
		}, ledger.FaultStatement},
		{"an override for another failure", func(c *court) {
			c.Override(c.alice, c.wait(1), 1, func(r *statement.Request) { r.Failure = "sso-down" })
		}, ledger.FaultStatement},
		{"an override for another client key", func(c *court) {
			c.Override(c.alice, c.wait(1), 1, func(r *statement.Request) { r.ClientKey = "SHA256:other" })
		}, ledger.FaultStatement},
		{"a new request as an override", func(c *court) {
			c.Override(c.alice, c.wait(1), 1, func(r *statement.Request) { r.Request = statement.RequestNew })
		}, ledger.FaultStatement},
		{"an override of nothing missing", func(c *court) { c.Override(c.alice, c.wait(1), 0, nil) }, ledger.FaultGrant},
		{"an override after the wait", func(c *court) {
			w := c.wait(1)
			c.Now = c.Now.Add(31 * time.Minute)
			c.Override(c.alice, w, 1, nil)
		}, ledger.FaultGrant},
		{"an override after the decision", func(c *court) { w := c.granted(); c.Override(c.alice, w, 1, nil) }, ledger.FaultGrant},
		{"a decision on the first touch, after an override", func(c *court) {
			w := c.wait(1)
			first := w.Used.Touch
			c.Override(c.alice, w, 1, nil)
			w.Used.Touch = first
			c.Allow(w, nil, 1)
		}, ledger.FaultTouch},

		{"an extension of what was not granted", func(c *court) { c.extension(c.wait(1), 1) }, ledger.FaultGrant},
		{"an extension to another host", func(c *court) {
			w := c.granted()
			c.Wait(c.alice, 1, both, func(r *statement.Request) {
				r.Request, r.Of, r.Host = statement.RequestExtend, w.Statement.ID, "db01"
			})
		}, ledger.FaultGrant},
		{"an extension by somebody else", func(c *court) {
			w := c.granted()
			c.Wait(c.bob, 1, []name.Person{"carol"}, func(r *statement.Request) { r.Request, r.Of = statement.RequestExtend, w.Statement.ID })
		}, ledger.FaultGrant},
		{"an extension asked for after the end", func(c *court) {
			w := c.granted()
			c.Now = c.Now.Add(31 * time.Minute)
			c.extension(w, 1)
		}, ledger.FaultGrant},
		{"an extension given after the end", func(c *court) {
			w := c.granted()
			c.Now = c.Now.Add(25 * time.Minute)
			ext := c.extension(w, 1)
			c.Approve(c.bob, ext, statement.Approve, nil)
			c.Now = c.Now.Add(6 * time.Minute)
			c.Extend(w, ext, []name.Person{"bob"})
		}, ledger.FaultGrant},
		{"an extension on the grant's own approvals", func(c *court) {
			w := c.granted()
			ext := c.extension(w, 2)
			c.Now = c.Now.Add(time.Minute)
			c.Extend(w, ext, both)
		}, ledger.FaultGrant},
		{"an extension that nobody signed", func(c *court) {
			w := c.granted()
			c.Now = c.Now.Add(time.Minute)
			c.Extend(w, w, both)
		}, ledger.FaultGrant},
		{"an extension twice", func(c *court) {
			w := c.granted()
			ext := c.extension(w, 1)
			c.Approve(c.bob, ext, statement.Approve, nil)
			for range 2 {
				c.Now = c.Now.Add(time.Minute)
				c.Extend(w, ext, []name.Person{"bob"})
			}
		}, ledger.FaultGrant},
		{"an extension to a later end than its minutes", func(c *court) {
			w := c.granted()
			c.Now = c.Now.Add(time.Minute)
			ext := c.extension(w, 1)
			c.Approve(c.bob, ext, statement.Approve, nil)
			c.Extend(w, ext, []name.Person{"bob"})
			edited(c, "grant.extended", func(e *ledger.Entry) {
				f := e.Facts.(*ledger.GrantExtended)
				f.Until = ledger.At(f.Until.Add(time.Hour))
			})
		}, ledger.FaultGrant},
		{"an extension that opens a grant of its own", func(c *court) {
			w := c.granted()
			ext := c.extension(w, 1)
			c.Approve(c.bob, ext, statement.Approve, nil)
			c.Allow(ext, []name.Person{"bob"}, 0)
		}, ledger.FaultGrant},
		{"a certificate that outlives the extension", func(c *court) {
			w := c.granted()
			c.Now = c.Now.Add(time.Minute)
			ext := c.extension(w, 1)
			c.Approve(c.bob, ext, statement.Approve, nil)
			c.Extend(w, ext, []name.Person{"bob"})
			edited(c, "grant.extended", func(e *ledger.Entry) {
				f := e.Facts.(*ledger.GrantExtended)
				f.Until = ledger.At(f.Until.Add(-30 * time.Second))
			})
		}, ledger.FaultCertificate},
	} {
		t.Run(x.what, func(t *testing.T) {
			c := newCourt(t)
			x.do(c)
			f := c.findings(t)
			found := false
			for _, y := range f {
				found = found || y.Code == x.code
			}
			if x.code == "" && len(f) > 0 || x.code != "" && !found {
				t.Errorf("found %v, want %q", f, x.code)
			}
		})
	}
}
