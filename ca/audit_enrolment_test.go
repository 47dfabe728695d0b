package ca_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// TestWhoLetAKeyCountIsAudited rewrites the ledger of a town as whoever holds the CA's keys could, and finds each change by what that holder lacks:
// other people's signatures.
func TestWhoLetAKeyCountIsAudited(t *testing.T) {
	w := newTown(t)
	third := w.desk["olga"].Invited("alice", "third")
	for _, p := range []name.Person{"bob", "carol"} {
		_, err := w.desk[p].Vouch(third)
		catest.Must(t, err)
	}
	w.clock.forward(30 * day) // an enrolment is a proof too, for a week
	_, err := third.Request("root", "web01")
	catest.Must(t, err)
	for _, k := range []*catest.Person{w.desk["alice"], w.safe["alice"], third} {
		_, err = k.Renew()
		catest.Must(t, err)
	}
	_, err = w.desk["alice"].Lose(w.safe["alice"].Fingerprint(), "in a taxi")
	catest.Must(t, err)
	w.loseAll("dan")
	token, err := w.desk["olga"].Invite("dan")
	catest.Must(t, err)
	dan := w.Stranger("dan")
	_, err = dan.Spend(token, "new")
	catest.Must(t, err)
	for _, p := range []name.Person{"bob", "carol", "olga"} {
		_, err = w.desk[p].Vouch(dan)
		catest.Must(t, err)
	}
	raw := w.Raw()
	audit := func(change func([]*ledger.Entry) []*ledger.Entry) []ledger.Finding {
		var list []*ledger.Entry
		for _, b := range raw {
			e, err := ledger.Decode(b)
			catest.Must(t, err)
			list = append(list, e)
		}
		a := ledger.NewAudit(ledger.AuditConfig{LedgerKey: w.Pins.Site.LedgerKey})
		for i, e := range change(list) {
			b, err := ledger.Encode(e)
			catest.Must(t, err)
			a.Add(int64(i), b)
		}
		f, _ := a.Findings()
		return f
	}
	if f := audit(func(l []*ledger.Entry) []*ledger.Entry { return l }); len(f) > 0 {
		t.Fatal(f)
	}
	// nth gives the n-th entry of a type, from 0; negative from the end.
	nth := func(l []*ledger.Entry, typ ledger.Type, n int) int {
		var at []int
		for i, e := range l {
			if e.Type() == typ {
				at = append(at, i)
			}
		}
		if n < 0 {
			n += len(at)
		}
		if n < 0 || n >= len(at) {
			t.Fatalf("no %d. entry of type %s", n, typ)
		}
		return at[n]
	}
	drop := func(typ ledger.Type, n int) func([]*ledger.Entry) []*ledger.Entry {
		return func(l []*ledger.Entry) []*ledger.Entry {
			i := nth(l, typ, n)
			return slices.Delete(l, i, i+1)
		}
	}
	vouched := func(n int, f func(*ledger.KeyVouched)) func([]*ledger.Entry) []*ledger.Entry {
		return func(l []*ledger.Entry) []*ledger.Entry {
			f(l[nth(l, "key.vouched", n)].Facts.(*ledger.KeyVouched))
			return l
		}
	}
	edit := func(typ ledger.Type, n int, f func(*ledger.Entry)) func([]*ledger.Entry) []*ledger.Entry {
		return func(l []*ledger.Entry) []*ledger.Entry { f(l[nth(l, typ, n)]); return l }
	}
	renewed := func(f func(*ledger.EnrolmentRenewed)) func([]*ledger.Entry) []*ledger.Entry {
		return edit("enrolment.renewed", 0, func(e *ledger.Entry) { f(e.Facts.(*ledger.EnrolmentRenewed)) })
	}
	for what, c := range map[string]struct {
		change func([]*ledger.Entry) []*ledger.Entry
		code   ledger.Code
		text   string
	}{
		"one owner's signature left out":   {drop("founding.signed", 0), ledger.FaultKey, "did not sign this founding"},
		"the founding left out":            {drop("founding", 0), ledger.FaultKey, "did not count"},
		"the founding twice":               {func(l []*ledger.Entry) []*ledger.Entry { return append(l, l[nth(l, "founding", 0)]) }, ledger.FaultOrder, "founded before"},
		"founded as in a demo":             {edit("founding", 0, func(e *ledger.Entry) { e.Facts.(*ledger.Founding).How = "demo" }), ledger.FaultKey, "founded by nobody"},
		"founded by one of two owners":     {edit("founding", 0, func(e *ledger.Entry) { f := e.Facts.(*ledger.Founding); f.Owners = f.Owners[:1] }), ledger.FaultKey, "the policy's owners are alice, bob"},
		"founded by nobody":                {edit("founding", 0, func(e *ledger.Entry) { e.Facts.(*ledger.Founding).Owners = nil }), ledger.FaultKey, "founded by nobody"},
		"a key adopted that nobody signed": {edit("founding", 0, func(e *ledger.Entry) { f := e.Facts.(*ledger.Founding); f.Keys = append(f.Keys, third.Fingerprint()) }), ledger.FaultKey, "did not sign this founding"},
		"an owner's entry with other keys": {edit("founding.signed", 0, func(e *ledger.Entry) { f := e.Facts.(*ledger.FoundingSigned); f.Keys = f.Keys[1:] }), ledger.FaultStatement, "another founding"},
		"an owner's entry of another": {func(l []*ledger.Entry) []*ledger.Entry {
			l[nth(l, "founding.signed", 0)] = l[nth(l, "founding.signed", 1)]
			return l
		}, ledger.FaultReplay, "again"},
		"nobody vouched":             {drop("key.vouched", 0), ledger.FaultKey, "did not count"},
		"a voucher's word left out":  {drop("approval.given", 0), ledger.FaultKey, "bob did not vouch"},
		"a voucher who said nothing": {vouched(0, func(f *ledger.KeyVouched) { f.By[1] = "dan" }), ledger.FaultKey, "dan did not vouch"},
		"a voucher twice":            {vouched(0, func(f *ledger.KeyVouched) { f.By[1] = f.By[0] }), ledger.FaultKey, "counts bob twice"},
		"one voucher of two":         {vouched(0, func(f *ledger.KeyVouched) { f.By, f.Needed = f.By[:1], 1 }), ledger.FaultKey, "not enough"},
		"by her own key, says the CA": {vouched(0, func(f *ledger.KeyVouched) { f.How, f.By, f.Needed = ledger.VouchedByOwnKey, []name.Person{"alice"}, 1 }), ledger.FaultKey,
			"alice did not vouch"},
		"two vouchers of a recovery's three": {vouched(-1, func(f *ledger.KeyVouched) { f.By, f.Needed = f.By[:2], 2 }), ledger.FaultKey, "or 3 others"},
		"no cooling off":                     {vouched(0, func(f *ledger.KeyVouched) { f.Cooling, f.CountsFrom = 0, ledger.At(f.CountsFrom.Add(-time.Hour)) }), ledger.FaultKey, "cools off for 0s, the policy says 1h"},
		"counts before it has cooled off":    {vouched(0, func(f *ledger.KeyVouched) { f.CountsFrom = ledger.At(f.CountsFrom.Add(-time.Hour)) }), ledger.FaultKey, "after it was vouched for"},
		"vouched for another's key":          {edit("key.vouched", 0, func(e *ledger.Entry) { e.Subject.Person = "carol" }), ledger.FaultOrder, "vouches for"},
		"vouched twice":                      {func(l []*ledger.Entry) []*ledger.Entry { return append(l, l[nth(l, "key.vouched", -1)]) }, ledger.FaultKey, "vouched for before"},
		"another comment than was signed":    {edit("approval.given", 0, func(e *ledger.Entry) { e.Facts.(*ledger.ApprovalGiven).Comment = "heard her" }), ledger.FaultStatement, "another approval"},
		"a vouch that counts for a week":     {edit("approval.given", 0, func(e *ledger.Entry) { f := e.Facts.(*ledger.ApprovalGiven); f.Until = ledger.At(f.Until.Add(6 * day)) }), ledger.FaultStatement, "another approval"},
		"a recovery that isn't said":         {edit("key.enrolled", -1, func(e *ledger.Entry) { e.Facts.(*ledger.KeyEnrolled).Recovery = false }), ledger.FaultKey, "every key of dan is gone"},
		"a recovery that is none":            {edit("key.enrolled", 0, func(e *ledger.Entry) { e.Facts.(*ledger.KeyEnrolled).Recovery = true }), ledger.FaultKey, "who had no key"},
		"a code that nobody gave":            {edit("key.enrolled", -1, func(e *ledger.Entry) { e.Facts.(*ledger.KeyEnrolled).TOTP = "yes" }), ledger.FaultTOTP, "no code of dan"},
		"a proof left out":                   {drop("key.proved", 0), ledger.FaultKey, "desk of alice was not proved since"},
		"a key left out of the renewal":      {renewed(func(f *ledger.EnrolmentRenewed) { f.Keys = f.Keys[1:] }), ledger.FaultKey, "leaves out desk of alice"},
		"a key twice in it":                  {renewed(func(f *ledger.EnrolmentRenewed) { f.Keys = append(f.Keys, f.Keys[0]) }), ledger.FaultKey, "or twice"},
		"another's key in it":                {renewed(func(f *ledger.EnrolmentRenewed) { f.Keys = append(f.Keys, w.desk["bob"].Fingerprint()) }), ledger.FaultKey, "no key of alice"},
		"a lapse of a key that is not in it": {renewed(func(f *ledger.EnrolmentRenewed) { f.Lapsed = []string{w.desk["bob"].Fingerprint()} }), ledger.FaultKey, "not among those renewed"},
		"no key in it":                       {renewed(func(f *ledger.EnrolmentRenewed) { f.Keys = nil }), ledger.FaultKey, "renews no key"},
		"a renewal a month after its proofs": {edit("enrolment.renewed", 0, func(e *ledger.Entry) { e.Time = ledger.At(e.Time.Add(30 * day)) }), ledger.FaultKey, "was not proved since"},
		"a proof of another key":             {edit("key.proved", 0, func(e *ledger.Entry) { e.Subject.Key = third.Fingerprint() }), ledger.FaultStatement, "the proof is of"},
		"another key reported as lost":       {edit("revoked", 0, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Target = third.Fingerprint() }), ledger.FaultStatement, "another loss"},
		"the key that signed, as lost":       {edit("revoked", 0, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Target = w.desk["alice"].Fingerprint() }), ledger.FaultKey, "signed with the key that is lost"},
		"another's key reported as lost":     {edit("revoked", 0, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Target = w.desk["bob"].Fingerprint() }), ledger.FaultKey, "reports a key of bob"},
		"another story of the loss":          {edit("revoked", 0, func(e *ledger.Entry) { e.Facts.(*ledger.Revoked).Why = "lost: at home" }), ledger.FaultStatement, "another loss"},
		"a policy with other owners": {edit("policy.adopted", 0, func(e *ledger.Entry) {
			f := e.Facts.(*ledger.PolicyAdopted)
			f.Text = strings.Replace(f.Text, `owners = ["alice", "bob"]`, `owners = ["olga"]`, 1)
			f.SHA256 = statement.Hash(ledger.EntryHash([]byte(f.Text)))
		}), ledger.FaultPolicy, ""},
	} {
		f := audit(c.change)
		if !slices.ContainsFunc(f, func(f ledger.Finding) bool { return f.Code == c.code && strings.Contains(f.Detail, c.text) }) {
			t.Errorf("%s: want %s %q, got %v", what, c.code, c.text, f)
		}
	}
}
