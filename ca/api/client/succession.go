package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// ErrSucceeded says that the CA which answers, by a key that is pinned, keeps another ledger than the pinned one: Succession proves whether that follows it.
var ErrSucceeded = errors.New("the CA keeps another ledger than the pinned one")

// ErrSuccession says that the other ledger is not proved to follow the pinned one.
var ErrSuccession = errors.New("the new ledger is not proved to follow the one seen before")

// elsewhere is ErrSucceeded where an answer is of another ledger.
func (c *Client) elsewhere(h http.Header) error {
	if o := h.Get(api.HeaderOrigin); o != "" && o != c.pins.Site.Origin {
		if c.other != nil {
			c.other()
		}
		return fmt.Errorf("%w: %.120q", ErrSucceeded, o)
	}
	return nil
}

// Succession fetches and checks the proof that the CA's ledger follows the pinned one. As long as founders have to sign, its Entry is nil.
func (c *Client) Succession(ctx context.Context) (*api.Succession, error) {
	last := c.ledger.newest()
	// Unsigned: a signed call names the ledger that it is for.
	q := url.Values{"origin": {c.pins.Site.Origin}, "from": {fmt.Sprint(last.Size)}}
	s, err := get[api.Succession](ctx, c.WithSigner(nil), api.PathSuccession+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	return s, CheckSuccession(c.pins, last, s)
}

// AskSuccession and SignSuccession are a founder's signature.
func (c *Client) AskSuccession(ctx context.Context, person string) (*api.Challenge, error) {
	return post[api.Challenge](ctx, c.WithSigner(nil), api.PathSuccession, api.SuccessionAsk{Person: person})
}

func (c *Client) SignSuccession(ctx context.Context, id string, s api.Signed) (*api.Succession, error) {
	return post[api.Succession](ctx, c.WithSigner(nil), api.PathSuccession+"/"+segment(id)+"/signature", s)
}

// Newest is the newest head of the pinned ledger that was seen.
func (c *Client) Newest() ledger.Checkpoint { return c.ledger.newest() }

// CheckSuccession judges a succession by the pins and the newest head seen: the pinned ledger's own key signed its last head, which continues what was seen;
// those who signed are founders by the founding in it, with keys that were enrolled and counted in it; the new site's keys are the pinned standby keys.
// Where there is an Entry, the founders are enough, and it is the first of the new ledger. That a founder's key was revoked later can't be seen here.
func CheckSuccession(pins api.Pins, last ledger.Checkpoint, s *api.Succession) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrSuccession}, a...)...)
	}
	f := &s.Facts
	if f.Old.Origin != pins.Site.Origin || f.Old.LedgerKey != pins.Site.LedgerKey || f.Old.Epoch != pins.Site.Epoch || f.Site.Profile != pins.Site.Profile || f.Site.Name != pins.Site.Name {
		return bad("it follows %s, epoch %d", f.Old.Origin, f.Old.Epoch)
	}
	if f.Site.Epoch != pins.Site.Epoch+1 {
		return bad("epoch %d follows %d", f.Site.Epoch, pins.Site.Epoch)
	}
	head, err := ledger.OpenCheckpoint(f.Old.Checkpoint, pins.Site.LedgerKey)
	if err != nil {
		return bad("%w", err)
	}
	if err := ledger.CheckConsistency(last.Pin(), head.Pin(), s.Proof); err != nil {
		return bad("it does not continue the %d entries seen here: %w", last.Size, err)
	}
	for _, l := range []struct {
		kind        string
		had, active []string
	}{{"client CA", pins.Site.ClientCA, f.Site.ClientCA}, {"session CA", pins.Site.SessionCA, f.Site.SessionCA}, {"host CA", pins.Site.HostCA, f.Site.HostCA}, {"TLS key", pins.Site.TLS, f.Site.TLS}} {
		if len(l.active) == 0 || !slices.Contains(l.had, l.active[0]) {
			return bad("its %s is none that is trusted here", l.kind)
		}
	}
	e, err := oldEntry(s.Founding, head)
	if err != nil {
		return bad("%w", err)
	}
	founding := &ledger.Founding{}
	switch x := e.Facts.(type) {
	case *ledger.Founding:
		founding = x
	case *ledger.SiteSucceeded:
		founding.Owners = x.Founders
	default:
		return bad("entry %d is %s, not the founding", s.Founding.Index, e.Type())
	}
	if !slices.Equal(f.Founders, founding.Owners) {
		return bad("it names other founders")
	}
	if len(f.Signed) > 0 {
		if _, err := f.Check(); err != nil {
			return bad("%w", err)
		}
	}
	if len(s.Keys) != len(f.Signed) {
		return bad("%d enrolments of %d signers", len(s.Keys), len(f.Signed))
	}
	for i, g := range f.Signed {
		if err := countsInOld(s, s.Keys[i], g, founding, head); err != nil {
			return bad("key of %s: %w", g.Person, err)
		}
	}
	if s.Entry == nil {
		return nil
	}
	if need := min(ledger.SuccessionSigners, len(founding.Owners)); len(f.Signed) < need || need == 0 {
		return bad("%d founders signed, it takes %d", len(f.Signed), need)
	}
	now, err := ledger.OpenCheckpoint(s.Entry.Checkpoint, f.Site.LedgerKey)
	if err != nil {
		return bad("%w", err)
	}
	if s.Entry.Index != 0 {
		return bad("entry %d is not the first", s.Entry.Index)
	}
	if e, err = oldEntry(*s.Entry, now); err != nil {
		return bad("%w", err)
	}
	again, ok := e.Facts.(*ledger.SiteSucceeded)
	if !ok {
		return bad("the new ledger begins with %s", e.Type())
	}
	if _, err := again.Check(); err != nil {
		return bad("%w", err)
	}
	want, err1 := ledger.SiteHash(f.Site)
	have, err2 := ledger.SiteHash(again.Site)
	if err := errors.Join(err1, err2); err != nil || want != have || again.Old != f.Old || !slices.Equal(again.Signed, f.Signed) {
		return bad("the new ledger begins with another succession")
	}
	return nil
}

func oldEntry(e api.ProvenEntry, head ledger.Checkpoint) (*ledger.Entry, error) {
	if err := ledger.CheckInclusion([]byte(e.Entry), e.Index, e.Proof, head); err != nil {
		return nil, err
	}
	return ledger.Decode([]byte(e.Entry))
}

// countsInOld demands that the key was enrolled as that person's, and counted: by the founding, or because others vouched for it.
func countsInOld(s *api.Succession, enrolled api.ProvenEntry, g ledger.SuccessionSigned, founding *ledger.Founding, head ledger.Checkpoint) error {
	e, err := oldEntry(enrolled, head)
	if err != nil {
		return err
	}
	public, person, fp := "", e.Subject.Person, e.Subject.Key
	switch k := e.Facts.(type) {
	case *ledger.KeyEnrolled:
		public = k.PublicKey
	case *ledger.KeyCarried: // by the succession before, whose founders signed it
		public = k.PublicKey
	}
	if person != g.Person || public != g.PublicKey || enrolled.Index != g.Entry {
		return fmt.Errorf("entry %d does not enrol it", enrolled.Index)
	}
	_, carried := e.Facts.(*ledger.KeyCarried)
	if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public)); err != nil || ssh.FingerprintSHA256(key) != fp {
		return fmt.Errorf("entry %d is about another key", enrolled.Index)
	}
	if s.Facts.Site.Profile == "demo" || carried || slices.Contains(founding.Keys, fp) {
		return nil
	}
	for _, v := range s.Vouched {
		e, err := oldEntry(v, head)
		if err != nil {
			return err
		}
		if f, ok := e.Facts.(*ledger.KeyVouched); ok && e.Subject.Key == fp && e.Subject.Person == g.Person && !f.CountsFrom.IsZero() {
			return nil
		}
	}
	return errors.New("nobody vouched for it")
}

// Founders are who signed.
func Founders(s *api.Succession) (out []name.Person) {
	for _, g := range s.Facts.Signed {
		out = append(out, g.Person)
	}
	return out
}
