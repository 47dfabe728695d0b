package ledger_test

import (
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// TestVerifyVia: a session behind a bastion or a proxy is held against its grant too.
func TestVerifyVia(t *testing.T) {
	for what, c := range map[string]struct {
		change func(s *story, v *ledger.SessionVia)
		code   ledger.Code // empty: nothing is found
	}{
		"a bastion": {func(*story, *ledger.SessionVia) {}, ""},
		"a proxy": {func(_ *story, v *ledger.SessionVia) {
			*v = ledger.SessionVia{Name: "p", Kind: ledger.ViaSOCKS, Addresses: v.Addresses}
		}, ""},
		"of another kind":  {func(_ *story, v *ledger.SessionVia) { v.Kind = "telnet" }, ledger.FaultSession},
		"no address":       {func(_ *story, v *ledger.SessionVia) { v.Addresses = nil }, ledger.FaultSession},
		"no key":           {func(_ *story, v *ledger.SessionVia) { v.HostKeys = nil }, ledger.FaultSession},
		"another login":    {func(_ *story, v *ledger.SessionVia) { v.Login = "root" }, ledger.FaultCertificate},
		"another bastion":  {func(_ *story, v *ledger.SessionVia) { v.Name = "bastion2" }, ledger.FaultCertificate},
		"no certificate":   {func(_ *story, v *ledger.SessionVia) { v.Certificate = "" }, ledger.FaultCertificate},
		"a proxy with one": {func(_ *story, v *ledger.SessionVia) { v.Kind = ledger.ViaHTTP }, ledger.FaultSession},
		"of another CA": {func(s *story, v *ledger.SessionVia) {
			s.SessionCA = ledgertest.NewKey(t)
			*v = *s.Bastion(s.first, ledgertest.NewKey(t).PublicKey())
		}, ledger.FaultCertificate},
		"over another key": {func(s *story, v *ledger.SessionVia) { *v = *s.Bastion(s.first, ledgertest.NewKey(t).PublicKey()) }, ledger.FaultCertificate},
	} {
		s := tell(t)
		s.Through = func(g *ledgertest.Grant, key ssh.PublicKey) *ledger.SessionVia {
			v := s.Bastion(g, key)
			c.change(s, v)
			return v
		}
		opened := s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
		if c.code == "" {
			s.IssueSession(opened)
			if e, err := ledger.Decode(opened.Entry); err != nil || e.Facts.(*ledger.SessionOpened).Via.Certificate != "" {
				s.IssueVia(opened)
			}
		}
		if r := s.report(t); c.code == "" && len(r.Findings) > 0 || c.code != "" && !has(r, c.code) || has(r, ledger.FaultRoot) {
			t.Errorf("%s: %v", what, r.Findings)
		}
	}
}

// TestVerifyViaOfNoGrant: a certificate that passes a bastion, issued under a grant that is none.
func TestVerifyViaOfNoGrant(t *testing.T) {
	s := tell(t)
	s.Through = s.Bastion
	opened := s.Open(s.first, s.jump, []string{bobsAge}, []name.Person{"bob"})
	opened.Subject.Request = "zzz-zzz"
	s.IssueVia(opened)
	if r := s.report(t); !has(r, ledger.FaultCertificate) {
		t.Errorf("%v", r.Findings)
	}
}
