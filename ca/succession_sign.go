package ca

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/internal/name"
	"breakglass/internal/policytext"
	"breakglass/internal/skfile"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// lost is the lost ledger, read only: what it proves to whoever pinned it.
type lost struct {
	state *state.State
	facts *ledger.SiteSucceeded
	head  ledger.Checkpoint
}

// openLost opens it; nil where there is none.
func openLost(dir string, f *ledger.SiteSucceeded) (*lost, error) {
	if f == nil {
		return nil, nil
	}
	head, err := ledger.OpenCheckpoint(f.Old.Checkpoint, f.Old.LedgerKey)
	if err != nil {
		return nil, err
	}
	s, err := state.OpenLost(filepath.Join(dir, oldDir), f.Old.Origin)
	if err != nil {
		return nil, err
	}
	return &lost{s, f, head}, nil
}

// close ends reading it.
func (l *lost) close() error {
	if l == nil {
		return nil
	}
	return l.state.Close()
}

// foundersOf are who may sign what follows a ledger, the entry that says so, the keys that it adopted, and how many have to.
func foundersOf(tx *state.Tx) (list []name.Person, entry int64, keys []string, needed int, err error) {
	at, err := tx.OfType("founding")
	if err != nil {
		return nil, 0, nil, 0, err
	}
	if len(at) > 0 {
		entry = at[0]
	}
	b, err := tx.Entry(entry)
	if err != nil {
		return nil, 0, nil, 0, err
	}
	e, err := ledger.Decode(b)
	if err != nil {
		return nil, 0, nil, 0, err
	}
	switch f := e.Facts.(type) {
	case *ledger.Founding:
		list, keys = f.Owners, f.Keys
	case *ledger.SiteSucceeded: // it follows another itself
		list = f.Founders
	default:
		return nil, 0, nil, 0, errors.New("the lost ledger was never founded: nobody can sign")
	}
	return list, entry, keys, min(ledger.SuccessionSigners, len(list)), nil
}

// answer is the proof for somebody who holds the head of from entries.
func (l *lost) answer(ctx context.Context, f *ledger.SiteSucceeded, from int64, offer bool) (*api.Succession, error) {
	out := &api.Succession{Facts: *f, Keys: []api.ProvenEntry{}, Vouched: []api.ProvenEntry{}}
	return out, l.state.View(ctx, func(tx *state.Tx) error {
		if from < 0 || from > l.head.Size {
			return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("the copy of the lost ledger that is followed has %d entries, you hold a head of %d", l.head.Size, from),
				Next: []string{"the founders: breakglass-ca succeed init   from a newer copy", "else, by hand: breakglass pins import LINE"}}
		}
		var err error
		if out.Proof, err = tx.Consistency(from, l.head.Size); err != nil {
			return err
		}
		owners, founding, founded, needed, err := foundersOf(tx)
		if err != nil {
			return err
		}
		if out.Founding, err = proven(tx, l.head.Size, founding); err != nil {
			return err
		}
		for _, s := range f.Signed {
			e, err := proven(tx, l.head.Size, s.Entry)
			if err != nil {
				return err
			}
			out.Keys = append(out.Keys, e)
			key, err := parseKey(s.PublicKey)
			if err != nil {
				return err
			}
			if slices.Contains(founded, ssh.FingerprintSHA256(key)) || f.Site.Profile == "demo" {
				continue
			}
			vouched, err := vouchedBy(tx, ssh.FingerprintSHA256(key))
			if err != nil {
				return err
			}
			if vouched < 0 { // it was carried over before
				continue
			}
			if e, err = proven(tx, l.head.Size, vouched); err != nil {
				return err
			}
			out.Vouched = append(out.Vouched, e)
		}
		if !offer {
			return nil
		}
		o := &api.SuccessionOffer{Owners: owners, Needed: needed, Carried: []api.CarriedOver{}, Missing: []string{
			"codes of the other channel: everybody makes a new one (breakglass totp)", "grants: people ask again", "keys that were suspended or not vouched for"}}
		if o.Policy, err = tx.PolicyText(f.Policy); err != nil {
			return err
		}
		list, err := carriedOver(tx)
		if err != nil {
			return err
		}
		for _, c := range list {
			x := api.CarriedOver{Person: c.Person}
			from := int64(0)
			switch k := c.Facts.(type) {
			case *ledger.KeyCarried:
				x.Key, from = k, k.From
			case *ledger.RecipientCarried:
				x.Recipient, from = k, k.From
			}
			if x.Entry, err = proven(tx, l.head.Size, from); err != nil {
				return err
			}
			o.Carried = append(o.Carried, x)
		}
		out.Offer = o
		return nil
	})
}

// vouchedBy is the newest entry by which a key counts; -1 is none.
func vouchedBy(tx *state.Tx, fingerprint string) (int64, error) {
	list, err := tx.OfType("key.vouched")
	if err != nil {
		return 0, err
	}
	for _, n := range slices.Backward(list) {
		b, err := tx.Entry(n)
		if err != nil {
			return 0, err
		}
		e, err := ledger.Decode(b)
		if err != nil {
			return 0, err
		}
		if e.Subject.Key == fingerprint {
			return n, nil
		}
	}
	return -1, nil
}

// signing takes the founders' signatures.
type signing struct {
	cfg  Config
	lost *lost
	log  *slog.Logger
	done chan struct{} // enough signed

	mu      sync.Mutex
	f       *ledger.SiteSucceeded
	pending map[string]*statement.Succession
}

// maxPending bounds the statements that wait: a stranger can have them made.
const maxPending = 100

// AwaitSuccession serves the founders of a succession that is not signed yet, on the service's own addresses, until enough of them have signed; then it
// writes the new ledger's beginning. Where there is none to be signed, it returns at once.
func AwaitSuccession(ctx context.Context, cfg Config) (err error) {
	f, err := readSuccession(cfg.Dir)
	if err != nil || f == nil {
		return err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	file, err := readFile(filepath.Join(cfg.Dir, configFile))
	if err != nil {
		return err
	}
	keys, err := loadKeys(cfg, file.Keys)
	if err != nil {
		return err
	}
	if err := keys.choose(f.Site); err != nil {
		return err
	}
	l, err := openLost(cfg.Dir, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	s := &signing{cfg: cfg, lost: l, log: cfg.Logger, done: make(chan struct{}), f: f, pending: map[string]*statement.Succession{}}
	enough, err := s.enough(ctx)
	if err != nil {
		return err
	}
	if !enough {
		if err := s.serve(ctx, file, keys); err != nil {
			return err
		}
	}
	return s.begin(ctx, keys)
}

func (s *signing) serve(ctx context.Context, file File, keys *keys) error {
	c := &CA{cfg: s.cfg, file: file, log: s.log}
	l, err := c.listen()
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	s.log.Warn("a succession waits for its founders: each runs `breakglass succeed`", "succeeds", s.f.Old.Origin, "listen", strings.Join(file.listens(), " "))
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() {
		failed <- server.Serve(tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: keys.certificate, NextProtos: []string{"http/1.1"}}))
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), server.Close())
	case <-s.done:
		drain, stop := context.WithTimeout(context.Background(), drainTimeout)
		defer stop()
		return server.Shutdown(drain)
	}
}

func (s *signing) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any, err error) {
		w.Header().Set(api.HeaderOrigin, s.f.Site.Origin)
		w.Header().Set(api.HeaderVersion, strconv.Itoa(api.Version))
		if err != nil {
			p := new(api.Problem)
			if !errors.As(err, &p) {
				s.log.Error("succession", "error", err)
				p = &api.Problem{Status: 500, Code: api.CodeInternal, Detail: "the CA could not do it; its log says why"}
			}
			q := *p
			q.Title = http.StatusText(q.Status)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(q.Status)
			json.NewEncoder(w).Encode(q)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.Encode(v)
	}
	read := func(w http.ResponseWriter, r *http.Request, v any) error {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxBody))
		if err != nil {
			return badRequest("%v", err)
		}
		return decode(b, v)
	}
	mux.HandleFunc("GET "+api.PathSuccession, func(w http.ResponseWriter, r *http.Request) {
		from, err := successionOf(r, s.f)
		if err != nil {
			answer(w, nil, err)
			return
		}
		s.mu.Lock()
		f := *s.f
		s.mu.Unlock()
		out, err := s.lost.answer(r.Context(), &f, from, true)
		answer(w, out, err)
	})
	mux.HandleFunc("POST "+api.PathSuccession, func(w http.ResponseWriter, r *http.Request) {
		var q api.SuccessionAsk
		err := read(w, r, &q)
		var ch *api.Challenge
		if err == nil {
			ch, err = s.ask(r.Context(), name.Person(q.Person))
		}
		answer(w, ch, err)
	})
	mux.HandleFunc("POST "+api.PathSuccession+"/{id}/signature", func(w http.ResponseWriter, r *http.Request) {
		var q api.Signed
		err := read(w, r, &q)
		var out *api.Succession
		if err == nil {
			out, err = s.sign(r.Context(), r.PathValue("id"), q.SSHSIG)
		}
		answer(w, out, err)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, &api.Problem{Status: 503, Code: api.CodeNotSucceeded, Detail: "this CA follows one that is lost, and its founders have not signed that yet: nothing else works",
			Next: []string{"each founder: breakglass succeed"}})
	})
	return mux
}

// successionOf reads which ledger somebody holds, and how much of it.
func successionOf(r *http.Request, f *ledger.SiteSucceeded) (int64, error) {
	from, err := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
	if err != nil || from < 0 {
		return 0, badRequest("want origin=ORIGIN and from=ENTRIES")
	}
	if o := r.URL.Query().Get("origin"); f == nil || o != f.Old.Origin {
		return 0, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("this CA does not follow %q", o)}
	}
	return from, nil
}

// keysOfFounder are the keys with which a founder may sign.
func (s *signing) keysOfFounder(tx *state.Tx, person name.Person) ([]state.Key, error) {
	owners, _, _, _, err := foundersOf(tx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(owners, person) {
		return nil, &api.Problem{Status: 403, Code: api.CodeNotOwner, Detail: fmt.Sprintf("%q is no founder", person), Next: []string{"the founders sign a succession"}}
	}
	all, err := tx.Keys(person)
	return slices.DeleteFunc(all, func(k state.Key) bool {
		return k.Suspended || k.Revoked || !k.Vouched || k.CountsFrom.IsZero() || k.CountsFrom.After(s.cfg.Now())
	}), err
}

func (s *signing) ask(ctx context.Context, person name.Person) (*api.Challenge, error) {
	var keys []state.Key
	if err := s.lost.state.View(ctx, func(tx *state.Tx) (err error) { keys, err = s.keysOfFounder(tx, person); return err }); err != nil {
		return nil, err
	}
	st, err := statementOf(s.f, s.lost.head.Pin(), person, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	text, err := statement.Marshal(st)
	if err != nil {
		return nil, err
	}
	ch := &api.Challenge{ID: st.ID, Statement: string(text), Namespace: statement.KindSuccession.Namespace(), Keys: []api.KeyHandle{}}
	for i, k := range keys {
		pub, err := parseKey(k.PublicKey)
		if err != nil {
			return nil, err
		}
		h, err := handle(handleName(i), pub.Marshal(), k.Credential, s.flags())
		if err != nil {
			return nil, err
		}
		ch.Keys = append(ch.Keys, h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.pending {
		if len(s.pending) >= maxPending || p.Expires.Before(s.cfg.Now()) {
			delete(s.pending, id)
		}
	}
	s.pending[st.ID] = st
	return ch, nil
}

// flags are what a key file asks of the key: touch, and PIN in production.
func (s *signing) flags() byte {
	if s.f.Site.Profile == "demo" {
		return skfile.FlagUserPresence
	}
	return skfile.FlagUserPresence | skfile.FlagUserVerification
}

func (s *signing) sign(ctx context.Context, id, armored string) (*api.Succession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.pending[id]
	delete(s.pending, id)
	if st == nil || !s.cfg.Now().Before(st.Expires) {
		return nil, expired()
	}
	sig, err := sshsig.Parse([]byte(armored))
	if err != nil {
		return nil, refused()
	}
	text, err := statement.Marshal(st)
	if err != nil {
		return nil, err
	}
	next := *s.f
	err = s.lost.state.View(ctx, func(tx *state.Tx) error {
		keys, err := s.keysOfFounder(tx, st.Person)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(keys, func(k state.Key) bool { return k.Fingerprint == ssh.FingerprintSHA256(sig.PublicKey) })
		if i < 0 {
			return refused()
		}
		next.Signed = slices.DeleteFunc(slices.Clone(next.Signed), func(o ledger.SuccessionSigned) bool { return o.Person == st.Person })
		next.Signed = append(next.Signed, ledger.SuccessionSigned{Person: st.Person, PublicKey: keys[i].PublicKey, Entry: keys[i].Index, Statement: string(text), SSHSIG: string(sig.Armor())})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := next.Check(); err != nil {
		return nil, &api.Problem{Status: 403, Code: api.CodeRefused, Detail: err.Error(), Next: []string{"touch the key when it blinks, and give its PIN: breakglass succeed"}}
	}
	if err := writeSuccession(s.cfg.Dir, &next); err != nil {
		return nil, err
	}
	s.f = &next
	s.log.Info("a founder signed the succession", "person", string(st.Person))
	enough, err := s.enough(ctx)
	if err != nil {
		return nil, err
	}
	if enough {
		select {
		case <-s.done:
		default:
			close(s.done)
		}
	}
	return s.lost.answer(ctx, s.f, 0, false)
}

func (s *signing) enough(ctx context.Context) (bool, error) {
	needed := 0
	err := s.lost.state.View(ctx, func(tx *state.Tx) (err error) {
		_, _, _, needed, err = foundersOf(tx)
		return err
	})
	return len(s.f.Signed) >= needed, err
}

// begin writes the first entries, in one transaction, and lets the service start.
func (s *signing) begin(ctx context.Context, keys *keys) (err error) {
	next, err := state.Open(state.Config{Dir: s.cfg.Dir, Origin: s.f.Site.Origin, Signer: keys.ledger, Now: s.cfg.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, next.Close()) }()
	if head, _ := next.Head(); head.Size == 0 { // else a start died behind it
		text := ""
		var carried []ledger.Carried
		if err := s.lost.state.View(ctx, func(tx *state.Tx) (err error) {
			if text, err = tx.PolicyText(s.f.Policy); err == nil {
				carried, err = carriedOver(tx)
			}
			return err
		}); err != nil {
			return err
		}
		if sum, err := ledger.CarriedHash(carried); err != nil || sum != s.f.Carried {
			return errors.Join(err, errors.New("what goes on is not what the founders signed for: the directory old was changed"))
		}
		if err := next.Do(ctx, func(tx *state.Tx) error { return s.write(tx, text, carried) }); err != nil {
			return err
		}
		s.log.Warn("the succession stands", "origin", s.f.Site.Origin, "succeeds", s.f.Old.Origin)
	}
	return durable.Remove(filepath.Join(s.cfg.Dir, successionFile))
}

func (s *signing) write(tx *state.Tx, text string, carried []ledger.Carried) error {
	add := func(subject ledger.Subject, f ledger.Facts) error {
		_, _, err := tx.Append(&ledger.Entry{Time: ledger.At(s.cfg.Now()), Actor: ledger.ActorRoot, Subject: subject, Facts: f})
		return err
	}
	if err := add(ledger.Subject{}, s.f); err != nil {
		return err
	}
	adopted := &ledger.PolicyAdopted{SHA256: s.f.Policy, How: ledger.AdoptedBySuccession}
	pieces := policytext.Cut(text)
	if len(pieces) <= 1 && len(text) <= wholeText {
		adopted.Text, pieces = text, nil
	}
	written := map[statement.Hash]bool{}
	for _, piece := range pieces {
		sum := statement.Hash(sha256.Sum256([]byte(piece)))
		adopted.Pieces = append(adopted.Pieces, sum)
		if written[sum] {
			continue
		}
		written[sum] = true
		if err := add(ledger.Subject{}, &ledger.PolicyText{SHA256: sum, Text: piece}); err != nil {
			return err
		}
	}
	if err := add(ledger.Subject{}, adopted); err != nil {
		return err
	}
	for _, c := range carried {
		if err := add(ledger.Subject{Person: c.Person, Key: c.Key}, c.Facts); err != nil {
			return err
		}
	}
	return nil
}

// succession is the proof that this CA follows another, for whoever pinned that.
func (c *CA) succession(r *http.Request) (*api.Succession, error) {
	if c.follows == nil {
		_, err := successionOf(r, nil)
		return nil, err
	}
	from, err := successionOf(r, c.follows.facts)
	if err != nil {
		return nil, err
	}
	out, err := c.follows.answer(r.Context(), c.follows.facts, from, false)
	if err != nil {
		return nil, err
	}
	return out, c.state.View(r.Context(), func(tx *state.Tx) error {
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		e, err := proven(tx, head.Size, 0)
		e.Checkpoint = note
		out.Entry = &e
		return err
	})
}

// findLost opens the ledger that this one follows, if it does.
func (c *CA) findLost() error {
	var f *ledger.SiteSucceeded
	if err := c.state.View(context.Background(), func(tx *state.Tx) error {
		if tx.Size() == 0 {
			return nil
		}
		b, err := tx.Entry(0)
		if err != nil {
			return err
		}
		e, err := ledger.Decode(b)
		if err == nil {
			f, _ = e.Facts.(*ledger.SiteSucceeded)
		}
		return err
	}); err != nil {
		return err
	}
	var err error
	if c.follows, err = openLost(c.cfg.Dir, f); err != nil { // those who know the new ledger need nothing of it
		c.log.Error("the lost ledger can't be read: who pinned it can't follow here", "error", err)
	}
	return nil
}
