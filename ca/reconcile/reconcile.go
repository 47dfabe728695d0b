package reconcile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshcert"
	"breakglass/ledger"
)

// MaxFindings bounds what is kept of a log that is nothing but findings; Report.More counts the rest.
const MaxFindings = 10_000

// Code says what a finding is.
type Code string

const (
	Unrecorded Code = "unrecorded" // the CA did not record this certificate: somebody else has its key
	Unreadable Code = "unreadable" // a certificate was accepted, and the line can't be read
	Other      Code = "other"      // the certificate of that serial in the ledger is another
	Kind       Code = "kind"       // a certificate that is for no host's sshd
	Login      Code = "login"      // accepted for another login
	Host       Code = "host"       // accepted on another host
	Time       Code = "time"       // accepted when it was not valid
	Source     Code = "source"     // accepted from another address
)

// Finding is one line of a log that should not be there.
type Finding struct {
	Code   Code   `json:"code"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Entry  int64  `json:"entry"` // of the certificate; -1 if there is none
	Serial uint64 `json:"serial,string"`
	KeyID  string `json:"key_id"`
	Detail string `json:"detail"`
}

// Report is what came of a comparison.
type Report struct {
	Lines    int       `json:"lines"`
	Matched  int       `json:"matched"`  // accepted, and as recorded
	Refused  int       `json:"refused"`  // certificates of ours that sshd refused
	Others   int       `json:"others"`   // of other CAs
	Timeless int       `json:"timeless"` // of Matched: the line has no time that can be read
	Findings []Finding `json:"findings"`
	More     int       `json:"more"`
}

type issued struct {
	index int64
	kind  sshcert.Kind
	cert  *ssh.Certificate
}

// Book is what the ledger says of certificates.
type Book struct {
	issued map[uint64]issued
	cas    map[string]bool
	sites  int
}

// Read reads a ledger's entries, in order. It does not verify them: `breakglass-ca ledger verify` does.
func Read(entries iter.Seq2[[]byte, error]) (*Book, error) {
	b := &Book{issued: map[uint64]issued{}, cas: map[string]bool{}}
	var index int64
	for raw, err := range entries {
		if err != nil {
			return nil, fmt.Errorf("reading ledger entry %d: %w", index, err)
		}
		e, err := ledger.Decode(raw)
		if err != nil {
			return nil, fmt.Errorf("reading ledger entry %d: %w", index, err)
		}
		switch f := e.Facts.(type) {
		case *ledger.SiteCreated:
			err = b.site(&f.Site)
		case *ledger.SiteChanged:
			err = b.site(&f.Site)
		case *ledger.SiteSucceeded:
			err = b.site(&f.Site)
		case *ledger.CertificateIssued:
			c, bad := sshcert.Parse([]byte(f.Certificate))
			if bad == nil {
				b.issued[c.Serial] = issued{index, sshcert.Kind(f.Kind), c}
			}
			err = bad
		}
		if err != nil {
			return nil, fmt.Errorf("reading ledger entry %d: %w", index, err)
		}
		index++
	}
	if b.sites == 0 { // every certificate would be another CA's
		return nil, errors.New("reading the ledger: it names no site")
	}
	return b, nil
}

// site keeps every CA key that ever was: a retired one must not be used unseen.
func (b *Book) site(s *ledger.Site) error {
	b.sites++
	for _, list := range [][]string{s.ClientCA, s.SessionCA, s.HostCA} {
		for _, line := range list {
			k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil {
				return fmt.Errorf("CA key: %w", err)
			}
			b.cas[ssh.FingerprintSHA256(k)] = true
		}
	}
	return nil
}

// Log is one log. Host, if not empty, is the policy's name of the host that wrote it, in place of the log's own.
type Log struct {
	Name string
	Host string
	Text io.Reader
	Now  time.Time
}

// Compare holds a log against the book and adds to r.
func (b *Book) Compare(r *Report, l Log) error {
	br := bufio.NewReaderSize(l.Text, MaxLine)
	for n := 1; ; n++ {
		line, err := br.ReadSlice('\n')
		text := string(line)
		for errors.Is(err, bufio.ErrBufferFull) { // its end is not kept, so it can't be read as a login; Parse is told by the length
			if len(text) <= MaxLine {
				text += "…"
			}
			_, err = br.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading %s: %w", l.Name, err)
		}
		if text != "" {
			r.Lines++
			if u, ok := Parse(text, l.Now); ok {
				u.Line = n
				b.judge(r, l, u)
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

func (b *Book) judge(r *Report, l Log, u Use) {
	i, known := b.issued[u.Serial]
	find := func(c Code, format string, a ...any) {
		if len(r.Findings) >= MaxFindings {
			r.More++
			return
		}
		f := Finding{Code: c, File: l.Name, Line: u.Line, Entry: -1, Serial: u.Serial, KeyID: u.KeyID, Detail: fmt.Sprintf(format, a...)}
		if known && u.Readable {
			f.Entry = i.index
		}
		r.Findings = append(r.Findings, f)
	}
	if !u.Readable {
		if u.Accepted {
			find(Unreadable, "sshd accepted a certificate, and what it wrote of it can't be read")
		}
		return
	}
	if !b.cas[u.CA] {
		r.Others++
		return
	}
	if !u.Accepted {
		r.Refused++
		return
	}
	before := len(r.Findings) + r.More
	switch {
	case !known:
		find(Unrecorded, "%s was let in as %s from %s with a certificate by %s that the CA did not record", u.KeyID, u.Login, u.Address, u.CA)
	case ssh.FingerprintSHA256(i.cert.SignatureKey) != u.CA || i.cert.KeyId != u.KeyID || ssh.FingerprintSHA256(i.cert.Key) != u.Key:
		find(Other, "the certificate of that serial was issued to %s, over %s: this one says %s, over %s", i.cert.KeyId, ssh.FingerprintSHA256(i.cert.Key), u.KeyID, u.Key)
	case i.kind != sshcert.Session && i.kind != sshcert.Via:
		find(Kind, "a %s certificate opened a shell", i.kind)
	default:
		b.session(find, l, u, i.cert)
	}
	if len(r.Findings)+r.More == before {
		r.Matched++
		if u.Time.IsZero() {
			r.Timeless++
		}
	}
}

// session holds a login against its session certificate.
func (b *Book) session(find func(Code, string, ...any), l Log, u Use, c *ssh.Certificate) {
	_, principal, _ := strings.Cut(c.ValidPrincipals[0], ":") // session: or via:
	login, host, _ := strings.Cut(principal, "@")
	if u.Login != login {
		find(Login, "issued for %s, accepted as %s", login, u.Login)
	}
	on := l.Host
	if on == "" {
		on = u.Host
	}
	if on != "" && on != host && (l.Host != "" || label(on) != label(host)) {
		find(Host, "issued for %s, accepted on %s", host, on)
	}
	if t := u.Time; !t.IsZero() && (t.Unix() < int64(c.ValidAfter) || t.Unix() > int64(c.ValidBefore)) {
		find(Time, "good from %s to %s, accepted at %s", stampOf(c.ValidAfter), stampOf(c.ValidBefore), t.UTC().Format(time.RFC3339))
	}
	if a, err := netip.ParseAddr(u.Address); err != nil {
		find(Source, "accepted from %q", u.Address)
	} else if sshcert.FromSource(c, a) != nil {
		find(Source, "good from %s, accepted from %s", c.CriticalOptions[sshcert.OptionSourceAddress], a)
	}
}

// label is a host name up to its first dot: a log has the short name, the policy may have the long one.
func label(h string) string {
	s, _, _ := strings.Cut(h, ".")
	return s
}

func stampOf(t uint64) string { return time.Unix(int64(t), 0).UTC().Format(time.RFC3339) }
