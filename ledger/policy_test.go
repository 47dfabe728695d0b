package ledger_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// owned is a policy whose two owners both have to sign the next one.
var owned = strings.Replace(strings.Replace(ledgertest.Policy, `owners = ["alice"]`, "owners = [\"alice\", \"bob\"]\nsigners = 2", 1), "[people.bob]", "[people.bob]\n[people.carol]", 1)

// next is what is to follow: carol is an owner only there.
var next = strings.Replace(owned, `owners = ["alice", "bob"]`, `owners = ["alice", "carol"]`, 1)

// comments are more than an entry holds of a diff.
var comments = strings.Repeat("# a comment that makes the diff longer than an entry of the ledger could hold it\n", 200)

// TestAPolicyIsAdoptedByItsOwners: what the audit takes, and what it finds where a CA put a policy in force by its own word.
func TestAPolicyIsAdoptedByItsOwners(t *testing.T) {
	type world struct {
		*ledgertest.Log
		alice, bob, carol *ledgertest.Person
	}
	sign := func(w *world, people ...*ledgertest.Person) {
		for _, p := range people {
			w.SignPolicy(p, next, nil)
		}
	}
	for _, c := range []struct {
		what string
		do   func(w *world)
		code ledger.Code // "" is nothing found
		text string
	}{
		{"both owners", func(w *world) { sign(w, w.alice, w.bob); w.Adopted(next, nil) }, "", ""},
		{"both owners, and a decision by it", func(w *world) { sign(w, w.alice, w.bob); w.Adopted(next, nil); w.Grant(w.alice, nil) }, "", ""},
		{"three policies one after the other", func(w *world) {
			w.Adopt(next, w.alice, w.bob)
			w.Adopt(owned, w.alice, w.carol)
			w.Adopt(next, w.bob, w.alice)
		}, "", ""},
		{"the whole text in the entry", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.Text, f.Pieces = next, nil })
		}, "", ""},
		{"somebody signs for something that never comes", func(w *world) { w.SignPolicy(w.alice, owned+"# x\n", nil); w.Adopt(next, w.bob, w.alice) }, "", ""},
		{"a refused file", func(w *world) {
			w.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.PolicyRefused{SHA256: statement.Hash{1}, Error: "line 3"}})
		}, "", ""},
		{"nobody", func(w *world) { w.Adopted(next, nil) }, ledger.FaultKey, "signed by nobody: the policy before it wants 2"},
		{"one of two", func(w *world) { sign(w, w.alice); w.Adopted(next, nil) }, ledger.FaultKey, "signed by alice: the policy before it wants 2"},
		{"one, twice", func(w *world) { sign(w, w.alice, w.alice); w.Adopted(next, nil) }, ledger.FaultKey, "wants 2"},
		{"an owner of the next policy only", func(w *world) { sign(w, w.alice, w.carol); w.Adopted(next, nil) }, ledger.FaultKey, "signed by carol, who is no owner"},
		{"that one's signature is not counted", func(w *world) { sign(w, w.alice, w.carol); w.Adopted(next, nil) }, ledger.FaultKey, "signed by alice: the policy before"},
		{"fewer, as the next policy says", func(w *world) {
			text := strings.Replace(next, "signers = 2", "signers = 1", 1)
			w.SignPolicy(w.alice, text, nil)
			w.Adopted(text, nil)
		}, ledger.FaultKey, "wants 2"},
		{"over another text", func(w *world) {
			sign(w, w.alice)
			w.SignPolicy(w.bob, next+"# and more\n", nil)
			w.Adopted(next, nil)
		}, ledger.FaultKey, "wants 2"},
		{"over another previous", func(w *world) {
			sign(w, w.alice)
			w.SignPolicy(w.bob, next, func(s *statement.Policy) { s.Previous[0] ^= 1 })
			w.Adopted(next, nil)
		}, ledger.FaultPolicy, "signed against policy"},
		{"over another diff", func(w *world) {
			sign(w, w.alice)
			w.SignPolicy(w.bob, next, func(s *statement.Policy) { s.Changes[0] ^= 1 })
			w.Adopted(next, nil)
		}, ledger.FaultStatement, "bob was shown another diff"},
		{"with another diff in the entry", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.Diff = "nothing to see\n" })
		}, ledger.FaultStatement, "shown another diff"},
		{"a long diff, of which the entry has the beginning", func(w *world) { w.Adopt(next+comments, w.alice, w.bob) }, "", ""},
		{"with a diff that only looks like a long one's beginning", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) {
				f.Diff = "--- in force\n+++ proposed\n+# a comment\n\\ Shortened: 3 more lines, which follow from the texts\n"
			})
		}, ledger.FaultStatement, "not how the texts differ"},
		{"over another long diff", func(w *world) {
			w.SignPolicy(w.alice, next+comments, nil)
			w.SignPolicy(w.bob, next+comments, func(s *statement.Policy) { s.Changes[0] ^= 1 })
			w.Adopted(next+comments, nil)
		}, ledger.FaultStatement, "bob was shown another diff"},
		{"signatures of a round before", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, nil)
			w.Adopt(owned, w.alice, w.carol)
			w.Adopted(next, nil)
		}, ledger.FaultKey, "signed by nobody"},
		{"a signature once more", func(w *world) {
			i := w.SignPolicy(w.alice, next, nil)
			w.AppendRaw(w.Entries[i])
		}, ledger.FaultReplay, "again"},
		{"a key that was suspended since", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: ledger.Subject{Person: "bob", Key: w.bob.Fingerprint}, Facts: &ledger.KeySuspended{Why: "counter_went_back"}})
			w.Adopted(next, nil)
		}, ledger.FaultKey, "no longer counts"},
		{"a key that was revoked since", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Revoke(w.alice, ledger.RevokedKey, w.bob.Fingerprint, time.Time{}, nil)
			w.Adopted(next, nil)
		}, ledger.FaultKey, "no longer counts"},
		{"an entry that says another change", func(w *world) {
			sign(w, w.alice)
			i := w.Entries[w.SignPolicy(w.bob, next, nil)]
			e, err := ledger.Decode(i)
			if err != nil {
				t.Fatal(err)
			}
			e.Facts.(*ledger.PolicySigned).SHA256[0] ^= 1
			w.Append(e)
		}, ledger.FaultStatement, "another change was signed"},
		{"by the first policy's word", func(w *world) { w.Adopted(next, func(f *ledger.PolicyAdopted) { f.How = ledger.AdoptedAtInit }) }, ledger.FaultKey, "it is not the first"},
		{"by nobody's word", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.How = "" })
		}, ledger.FaultPolicy, "adopted by"},
		{"a chain with a hole", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.Previous[0] ^= 1 })
		}, ledger.FaultPolicy, "follows policy"},
		{"a text of another hash", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.Text, f.Pieces = next+"#", nil })
		}, ledger.FaultPolicy, "text has SHA-256"},
		{"a piece that is missing", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.Pieces[0][0] ^= 1 })
		}, ledger.FaultPolicy, "is missing"},
		{"pieces changed about", func(w *world) {
			long := next + strings.Repeat("# a comment that makes the text longer than an entry of the ledger could hold it\n", 900)
			w.SignPolicy(w.alice, long, nil)
			w.SignPolicy(w.bob, long, nil)
			w.Adopted(long, func(f *ledger.PolicyAdopted) {
				if len(f.Pieces) < 2 {
					t.Fatalf("%d pieces", len(f.Pieces))
				}
				slices.Reverse(f.Pieces)
			})
		}, ledger.FaultPolicy, "text has SHA-256"},
		{"a piece twice in it", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.Pieces = append(f.Pieces, f.Pieces[0]) })
		}, ledger.FaultPolicy, "text has SHA-256"},
		{"text and pieces", func(w *world) {
			sign(w, w.alice, w.bob)
			w.Adopted(next, func(f *ledger.PolicyAdopted) { f.Text = next })
		}, ledger.FaultPolicy, "names pieces too"},
		{"a piece of another text", func(w *world) {
			w.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.PolicyText{SHA256: sha256.Sum256([]byte("a")), Text: "b"}})
		}, ledger.FaultPolicy, "the piece has SHA-256"},
		{"a piece that is there", func(w *world) {
			for range 2 {
				w.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.PolicyText{SHA256: sha256.Sum256([]byte("a")), Text: "a"}})
			}
		}, ledger.FaultPolicy, "is there already"},
		{"of another profile", func(w *world) {
			text := strings.Replace(next, `"demo"`, `"production"`, 1)
			w.Adopt(text, w.alice, w.bob)
		}, ledger.FaultPolicy, "neither ever changes"},
		{"of another site", func(w *world) {
			text := strings.Replace(next, `name = "test"`, `name = "best"`, 1)
			w.Adopt(text, w.alice, w.bob)
		}, ledger.FaultPolicy, "neither ever changes"},
		{"a refusal without a word", func(w *world) {
			w.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.PolicyRefused{SHA256: statement.Hash{1}}})
		}, ledger.FaultPolicy, "without a reason"},
	} {
		w := &world{Log: ledgertest.New(t)}
		w.alice, w.bob, w.carol = w.Enrol("alice"), w.Enrol("bob"), w.Enrol("carol")
		w.Adopt(owned, w.alice)
		c.do(w)
		r, err := ledger.Verify(ledgertest.All(w.Entries), w.Checkpoint(), w.VKey)
		if err != nil {
			t.Fatal(c.what, err)
		}
		found := slices.ContainsFunc(r.Findings, func(f ledger.Finding) bool { return f.Code == c.code && strings.Contains(f.Detail, c.text) })
		if c.code == "" && len(r.Findings) > 0 || c.code != "" && !found {
			t.Errorf("%s: %v", c.what, r.Findings)
		}
	}
}

// TestAPolicyOfSeveralFilesHasItsTermsInTheFirst.
func TestAPolicyOfSeveralFilesHasItsTermsInTheFirst(t *testing.T) {
	l := ledgertest.New(t)
	alice, bob := l.Enrol("alice"), l.Enrol("bob")
	set, err := policytext.Join([]policytext.File{{Name: policytext.Main, Text: owned}, {Name: "hosts/more.toml", Text: "[hosts.web02]\naddress = [\"127.0.0.1:22\"]\n"}})
	if err != nil {
		t.Fatal(err)
	}
	l.Adopt(set, alice)
	l.Adopt(next, alice, bob)
	l.Adopt(owned, alice)
	r, err := ledger.Verify(ledgertest.All(l.Entries), l.Checkpoint(), l.VKey)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Detail, "signed by alice: the policy before it wants 2") {
		t.Errorf("%v", r.Findings)
	}
}
