package ledgertest

import (
	"net/netip"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// Bastion is the via bastion1 of a session under g over the key of its jump, as a CA gives it.
func (l *Log) Bastion(g *Grant, key ssh.PublicKey) *ledger.SessionVia {
	l.T.Helper()
	c := l.sign(sshcert.NewVia(key, g.Statement.Person, g.Statement.ID, "jump", "bastion1", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, l.Now), sshcert.Via, l.SessionCA)
	return &ledger.SessionVia{Name: "bastion1", Kind: ledger.ViaSSH, Addresses: []string{"127.0.0.9:22"}, Login: "jump",
		HostKeys: []string{Line(NewKey(l.T).PublicKey())}, Certificate: Line(c)}
}

// IssueVia appends the entry of the certificate that a session's bastion is shown.
func (l *Log) IssueVia(s *Session) {
	l.T.Helper()
	e, err := ledger.Decode(s.Entry)
	must(l.T, err)
	c, err := sshcert.Parse([]byte(e.Facts.(*ledger.SessionOpened).Via.Certificate))
	must(l.T, err)
	l.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s.Subject, Facts: issued(c, sshcert.Via)})
}
