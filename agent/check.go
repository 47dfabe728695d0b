package agent

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/sshcert"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// ClockSkew is how far this machine's clock may be from the CA's before the person is told. It decides nothing: nonces and times are the CA's.
const ClockSkew = 30 * time.Second

// Seen is what this machine knows of the CA when a statement comes: the site as pinned and followed, and the newest checkpoint.
type Seen struct {
	Site       ledger.Site
	Checkpoint statement.Checkpoint
}

// differs is the one error of this file: what the statement says, and what was asked.
func differs(field string, got, want any) error {
	return fmt.Errorf("%w: %s is %q, asked was %q", ErrStatement, field, fmt.Sprint(got), fmt.Sprint(want))
}

type field struct {
	name      string
	got, want any
}

func compare(fields []field) error {
	for _, f := range fields {
		if f.got != f.want {
			return differs(f.name, f.got, f.want)
		}
	}
	return nil
}

// open parses a challenge's statement into s and checks that its signature would count as that kind alone, here and now.
func open(ch *api.Challenge, s statement.Statement, seen Seen) error {
	if ch.Namespace != s.Kind().Namespace() {
		return differs("namespace", ch.Namespace, s.Kind().Namespace())
	}
	if err := statement.Parse([]byte(ch.Statement), s); err != nil {
		return fmt.Errorf("%w: %w", ErrStatement, err)
	}
	h, _ := statement.HeadOf(s)
	if err := compare([]field{
		{"origin", h.Origin, seen.Site.Origin},
		{"epoch", h.Epoch, seen.Site.Epoch},
		{"id", h.ID, ch.ID},
		{"validity", h.Expires.Sub(h.Issued), statement.Validity},
	}); err != nil {
		return err
	}
	if h.Nonce == (statement.Nonce{}) {
		return differs("nonce", "nothing", "32 random bytes")
	}
	// What we sign pins the history before it: never one that is behind what we have seen, nor another of the same length.
	old := seen.Checkpoint
	if h.Checkpoint.Size < old.Size || h.Checkpoint.Size == old.Size && old.Size > 0 && h.Checkpoint.Root != old.Root {
		return fmt.Errorf("%w: checkpoint %d is not after %d, which this machine has seen: the CA's log was rolled back", ErrStatement, h.Checkpoint.Size, old.Size)
	}
	return nil
}

// CheckRequest holds a request's statement against what was asked; key is the client key.
func CheckRequest(ch *api.Challenge, w Want, key ssh.PublicKey, seen Seen) (*statement.Request, error) {
	var s statement.Request
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	if err := compare([]field{
		{"kind", s.Request, w.kind()},
		{"of", s.Of, w.Of},
		{"person", s.Person, w.Person},
		{"login", s.Login, w.Login},
		{"host", s.Host, w.Host},
		{"minutes", s.Minutes, w.Minutes},
		{"reason", s.Reason, w.Reason},
		{"ticket", s.Ticket, w.Ticket},
		{"failure", s.Failure, w.Failure},
		{"severity", s.Severity, w.Severity},
		{"drill", s.Drill, w.Drill},
		{"client key", s.ClientKey, ssh.FingerprintSHA256(key)},
	}); err != nil {
		return nil, err
	}
	if !slices.Equal(s.Forwards, w.Forwards) {
		return nil, differs("forwards", s.Forwards, w.Forwards)
	}
	if s.Policy == (statement.Hash{}) {
		return nil, differs("policy", "nothing", "a SHA-256")
	}
	from, err := sources(s.Sources)
	if err != nil {
		return nil, err
	}
	// The first is what the CA sees of this very connection, behind whatever translates addresses here. All others it has told us before: one
	// that nobody told us of would be good for somebody else.
	for i, addr := range from[1:] {
		if !slices.ContainsFunc(w.seen, func(x api.Seen) bool { return x.Address == s.Sources[i+1] }) {
			return nil, differs("source", addr, "an address that the CA has told this machine of")
		}
	}
	return &s, nil
}

// sources reads the addresses that the CA saw: at least one, each a single address.
func sources(list []string) ([]netip.Addr, error) {
	if len(list) == 0 {
		return nil, differs("source", "nothing", "the addresses of this machine")
	}
	var out []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, differs("source", s, "an address")
		}
		out = append(out, a)
	}
	return out, nil
}

// CheckEnrolment holds an enrolment's statement against the new credential.
func CheckEnrolment(ch *api.Challenge, person name.Person, key name.Key, q api.EnrolKey, secret string, seen Seen) (*statement.Enrolment, error) {
	var s statement.Enrolment
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	var att statement.Hash
	if len(q.AuthData) > 0 {
		att = sha256.Sum256(q.AuthData)
	}
	return &s, compare([]field{
		{"person", s.Person, person},
		{"key", s.Key, key},
		{"public key", s.PublicKey, q.PublicKey},
		{"credential", s.Credential, statement.Hash(sha256.Sum256(q.CredentialID))},
		{"attestation", s.Attestation, att},
		{"invite", s.Invite, inviteHash(secret)},
	})
}

// CheckPass holds a pass's statement against the key that is to read.
func CheckPass(ch *api.Challenge, person name.Person, holder string, seen Seen) (*statement.Pass, error) {
	var s statement.Pass
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	if err := compare([]field{{"person", s.Person, person}, {"holder", s.Holder, holder}}); err != nil {
		return nil, err
	}
	if d := s.Until.Sub(s.Issued); d <= 0 || d > PassTime+statement.Validity {
		return nil, differs("until", s.Until, "15 minutes from now")
	}
	_, err := sources(s.Sources)
	return &s, err
}

// PassTime is how long a pass reads.
const PassTime = 15 * time.Minute

// CheckRecipient holds a recipient's statement against the age key.
func CheckRecipient(ch *api.Challenge, q api.RecipientAsk, seen Seen) (*statement.Recipient, error) {
	var s statement.Recipient
	if err := open(ch, &s, seen); err != nil {
		return nil, err
	}
	return &s, compare([]field{
		{"person", string(s.Person), q.Person},
		{"age", s.Age, q.Age},
		{"sealed", s.Sealed, q.Sealed},
	})
}

// CheckGranted holds the CA's answer against what was signed: the certificate has to be this key's, for this request, by the pinned
// client CA, good from no more than the addresses in the statement, and end with the grant.
func CheckGranted(g *api.Granted, s *statement.Request, key ssh.PublicKey, site ledger.Site) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w", ErrAnswer, fmt.Errorf(format, a...))
	}
	cert, err := sshcert.Parse([]byte(g.Certificate))
	if err != nil {
		return bad("%w", err)
	}
	cas, err := parseKeys(site.ClientCA)
	if err != nil {
		return bad("%w", err)
	}
	// No clock: ours may be wrong, the jump's judges.
	if err := sshcert.Verify(cert, sshcert.Client, cas, time.Time{}); err != nil {
		return bad("%w", err)
	}
	if ssh.FingerprintSHA256(cert.Key) != ssh.FingerprintSHA256(key) {
		return bad("the certificate is another key's")
	}
	want := sshcert.Grant{Request: s.ID, Login: s.Login, Host: s.Host}
	if got := cert.CriticalOptions[sshcert.OptionGrant]; got != want.String() {
		return bad("the certificate is for %q, not %q", got, want)
	}
	if got := cert.ValidPrincipals[0]; got != sshcert.ClientPrincipal(s.Person) {
		return bad("the certificate is for %q", got)
	}
	if (g.ID != s.ID) || g.Person != s.Person || g.Login != s.Login || g.Host != s.Host {
		return bad("granted was %s: %s as %s@%s", g.ID, g.Person, g.Login, g.Host)
	}
	from, err := sshcert.ParseSources(cert.CriticalOptions[sshcert.OptionSourceAddress])
	if err != nil {
		return bad("%w", err)
	}
	asked, err := sources(s.Sources)
	if err != nil {
		return err
	}
	for _, a := range from {
		if !slices.Contains(asked, a) {
			return bad("the certificate is good from %s, which the statement doesn't name", a)
		}
	}
	if s.Minutes > 0 && g.Minutes > s.Minutes {
		return bad("granted were %d minutes, %d were asked for", g.Minutes, s.Minutes)
	}
	if end := time.Unix(int64(cert.ValidBefore), 0); end.After(g.Until.Add(time.Second)) {
		return bad("the certificate ends %s, the grant %s", end.UTC(), g.Until.UTC())
	}
	for _, f := range g.Forwards {
		if !slices.Contains(s.Forwards, f) {
			return bad("granted was the forward %q, which was not asked for", f)
		}
	}
	return nil
}

func parseKeys(list []string) ([]ssh.PublicKey, error) {
	var out []ssh.PublicKey
	for _, s := range list {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s))
		if err != nil {
			return nil, fmt.Errorf("reading a pinned key: %w", err)
		}
		out = append(out, k)
	}
	return out, nil
}

// inviteHash is how an invite is named in statements and entries: by the SHA-256 of the secret's bytes.
func inviteHash(secret string) statement.Hash {
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil {
		return statement.Hash{} // the CA refuses it too
	}
	return sha256.Sum256(b)
}
