package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/custody"
	"breakglass/ca/state"
	"breakglass/internal/durable"
	"breakglass/ledger"
	"breakglass/policy"
)

// Rotation, in two steps that any amount of time may lie between:
//
//	rotate KEY     the standby key becomes active, the old one stays trusted, a new standby is made. Nobody has to touch a host: hosts,
//	               jumps and clients trust the standby since they were set up.
//	retire KEY     the old key leaves the site, for ever, once no certificate of it is alive and hosts have been given the new list.
//
// What touches a private key is done here, on the CA's own machine. Before the founding, and in the demo profile, local root does
// the rest too. After it, what was prepared waits for an operator's order, whose signature stands in the entry that changes the site.

const (
	// maxTrusted bounds the keys of one kind that are trusted together: active, the old one during the overlap, two standby.
	maxTrusted = 4
	// preparedFor is how long a prepared rotation waits for its order; its key is in the service's memory as long.
	preparedFor = time.Hour
	// keyName is how many bytes of a public half's hash name a key's file.
	keyName = 4
)

// RotateAsk asks for a rotation.
type RotateAsk struct {
	Key        string `json:"key"`        // client_ca, session_ca, host_ca or tls
	Standby    string `json:"standby"`    // its place; paths are absolute
	Passphrase []byte `json:"passphrase"` // of the standby; the new standby is sealed under it too
	Keep       []byte `json:"keep"`       // of the CA's own sealed keys, if it is another
}

// Rotated is what a rotation did, or what waits for its order.
type Rotated struct {
	Key         string `json:"key"`
	Active      string `json:"active"`  // fingerprint
	Old         string `json:"old"`     // trusted until it is retired
	Standby     string `json:"standby"` // the new one
	StandbyFile string `json:"standby_file"`
	Place       string `json:"place"` // of the active key
	// Asks says that no key of the CA was sealed before: from the next start on it wants the passphrase of this one.
	Asks bool `json:"asks,omitempty"`
	// Order is the target of the order that it waits for; "" is none, it is done.
	Order string `json:"order,omitempty"`
}

// prepared is a rotation whose keys are loaded and kept, and which no entry knows of yet.
type prepared struct {
	Rotated
	until   time.Time
	active  string // as the site's list has it
	standby string
	ssh     *custody.Key
	tls     tlsKey
}

func rotationProblem(format string, a ...any) *api.Problem {
	return &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf(format, a...)}
}

// Rotate prepares a rotation and, where local root may, carries it out.
func (c *CA) Rotate(ctx context.Context, q *RotateAsk) (*Rotated, error) {
	c.rotation.Lock()
	defer c.rotation.Unlock()
	defer custody.Wipe(q.Passphrase)
	defer custody.Wipe(q.Keep)
	site, err := c.site(ctx)
	if err != nil {
		return nil, err
	}
	p, err := c.prepare(site.Site, q)
	if err != nil {
		return nil, err
	}
	if site.Founded && site.Site.Profile != string(policy.Demo) {
		p.Order = p.Key + ":" + p.Active
		p.until = c.now().Add(preparedFor)
		c.prepared.Store(p)
		return &p.Rotated, nil
	}
	err = c.state.Do(ctx, func(tx *state.Tx) error {
		next, err := p.next(tx)
		if err != nil {
			return err
		}
		_, _, err = tx.Append(c.entry(ledger.ActorRoot, ledger.Subject{}, next))
		return err
	})
	if err == nil || errors.Is(err, state.ErrUnknown) {
		_, serr := c.settled(context.WithoutCancel(ctx), p)
		err = errors.Join(err, serr)
	}
	if err != nil {
		return nil, err
	}
	return &p.Rotated, nil
}

// prepare loads the standby key, keeps it where the CA's keys are, makes a new standby and names both places in the configuration: a crash
// from here on finds the key that the ledger calls active.
func (c *CA) prepare(site ledger.Site, q *RotateAsk) (*prepared, error) {
	list := keyList(&site, q.Key)
	if list == nil {
		return nil, rotationProblem("%q can't be rotated: want client_ca, session_ca, host_ca or tls", q.Key)
	}
	place, err := custody.ParsePlace(q.Standby)
	if err != nil {
		return nil, rotationProblem("%v", err)
	}
	production := site.Profile == string(policy.Production)
	if production && place.Kind == custody.File {
		return nil, fmt.Errorf("%w: the standby too is a sealed file, as init made it", ErrPlainKey)
	}
	if len(*list) >= maxTrusted {
		return nil, rotationProblem("%d keys are trusted as %s: retire an old one first", len(*list), q.Key)
	}
	p := &prepared{}
	p.Key, p.Place = q.Key, place.String()
	keeper := &custody.Keeper{Dir: c.cfg.Dir, AgentSocket: c.file.Keys.Agent, Passphrase: func() ([]byte, error) { return slices.Clone(q.Passphrase), nil }}
	defer keeper.Forget()
	s := Sealing{Kind: place.Kind, Passphrase: q.Keep, Standby: q.Passphrase, WorkFactor: c.cfg.WorkFactor}
	if len(s.Passphrase) == 0 {
		s.Passphrase = q.Passphrase
	}
	var secret []byte
	if place.Kind == custody.Agent {
		if p.ssh, err = keeper.Load(place); err != nil {
			return nil, err
		}
		p.active = authorized(p.ssh.Public())
		s.Kind = custody.Sealed // of the new standby
	} else {
		if secret, err = keeper.Secret(place); err != nil {
			return nil, err
		}
		defer custody.Wipe(secret)
		if err := p.parse(place, secret); err != nil {
			return nil, err
		}
	}
	switch i := slices.Index(*list, p.active); {
	case i == 0:
		return nil, rotationProblem("%s is the active %s already", fingerprintOf(p.active), q.Key)
	case i < 0: // nobody would accept what it signs
		return nil, rotationProblem("%s is no standby %s of this site", fingerprintOf(p.active), q.Key)
	}
	p.Active, p.Old = fingerprintOf(p.active), fingerprintOf((*list)[0])
	if place.Kind == custody.Sealed {
		asked, err := c.opens(s.Passphrase)
		if err != nil {
			return nil, err
		}
		p.Asks = !asked
	}
	if secret != nil {
		at, err := s.replace(c.cfg.Dir, filepath.Join("keys", nameOf(q.Key, p.active)), s.Passphrase, s.WorkFactor, secret)
		if err != nil {
			return nil, err
		}
		p.Place = at.String()
		if p.ssh != nil {
			p.ssh.Place = at
		}
		p.tls.place = at
	}
	var made []byte
	if p.standby, made, err = makeKey(q.Key); err != nil {
		return nil, err
	}
	defer custody.Wipe(made)
	at, err := s.replace(c.cfg.Dir, filepath.Join("standby-keys", nameOf(q.Key, p.standby)), s.Standby, s.standbyFactor(), made)
	if err != nil {
		return nil, err
	}
	p.Standby, p.StandbyFile = fingerprintOf(p.standby), filepath.Join(c.cfg.Dir, at.At)
	had, err := c.file.Keys.places(q.Key)
	if err != nil {
		return nil, err
	}
	f := c.file
	*f.Keys.list(q.Key) = []string{had[0].String(), p.Place}
	return p, f.write(filepath.Join(c.cfg.Dir, "config.toml"))
}

func (p *prepared) parse(place custody.Place, secret []byte) (err error) {
	if p.Key == KeyTLS {
		p.tls, err = parseTLS(place, secret)
		p.active = p.tls.spki
		return err
	}
	if p.ssh, err = custody.Parse(place, secret); err == nil {
		p.active = authorized(p.ssh.Public())
	}
	return err
}

// opens demands that the passphrase of a key to be is that of the others, for the next start asks for one; it says whether one is asked for already.
func (c *CA) opens(passphrase []byte) (asked bool, err error) {
	for _, n := range allKeys {
		places, err := c.file.Keys.places(n)
		if err != nil {
			return false, err
		}
		if places[0].Kind != custody.Sealed {
			continue
		}
		k := &custody.Keeper{Dir: c.cfg.Dir, Passphrase: func() ([]byte, error) { return slices.Clone(passphrase), nil }}
		defer k.Forget()
		b, err := k.Secret(places[0])
		custody.Wipe(b)
		if errors.Is(err, custody.ErrPassphrase) {
			return true, rotationProblem("the standby's passphrase is not that of the CA's own keys, which are asked for together: give both")
		}
		return true, err
	}
	return false, nil
}

// nameOf is the file of a key that is made or moved after init.
func nameOf(key, public string) string {
	h := sha256.Sum256([]byte(public))
	return key + "-" + hex.EncodeToString(h[:keyName])
}

// replace writes a key file, over one that an interrupted try left.
func (s Sealing) replace(dir, path string, passphrase []byte, factor int, secret []byte) (custody.Place, error) {
	if err := durable.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700); err != nil {
		return custody.Place{}, err
	}
	if s.Kind == custody.File {
		return custody.Place{Kind: custody.File, At: path}, durable.WriteFile(filepath.Join(dir, path), secret, 0o600)
	}
	b, err := custody.Seal(secret, passphrase, factor)
	if err != nil {
		return custody.Place{}, err
	}
	return custody.Place{Kind: custody.Sealed, At: path + ".age"}, durable.WriteFile(filepath.Join(dir, path+".age"), b, 0o600)
}

// next is the site after the rotation.
func (p *prepared) next(tx *state.Tx) (*ledger.SiteChanged, error) {
	s, err := tx.Site()
	if err != nil {
		return nil, err
	}
	site := s.Site
	list := keyList(&site, p.Key)
	if i := slices.Index(*list, p.active); i < 1 {
		return nil, rotationProblem("%s is no standby %s any more", p.Active, p.Key)
	}
	next := append([]string{p.active}, slices.DeleteFunc(slices.Clone(*list), func(k string) bool { return k == p.active })...)
	*list = append(next, p.standby)
	return &ledger.SiteChanged{Site: site, Why: "rotated " + p.Key}, nil
}

// settled asks the ledger which key is active, and uses the new one if that is it: a commit that was reported as failed may stand, and signing
// with another key than the ledger calls active would go on until the next start.
func (c *CA) settled(ctx context.Context, p *prepared) (bool, error) {
	site, err := c.site(ctx)
	if err != nil {
		return false, fmt.Errorf("asking which key is active: %w", err)
	}
	if (*keyList(&site.Site, p.Key))[0] != p.active {
		return false, nil
	}
	return true, c.rotated(p)
}

// rotated uses the new key from now on, and says so in the configuration. If the latter fails, the next start still finds it.
func (c *CA) rotated(p *prepared) error {
	c.keys.mu.Lock()
	if p.Key == KeyTLS {
		c.keys.tls = []tlsKey{p.tls}
	} else {
		c.keys.ssh[p.Key] = []*custody.Key{p.ssh}
	}
	c.keys.mu.Unlock()
	*c.file.Keys.list(p.Key) = []string{p.Place}
	return c.file.write(filepath.Join(c.cfg.Dir, "config.toml"))
}

// Retired is a key that left the site.
type Retired struct {
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"`
	// Order is the target of the order that it takes; "" is none, it is done.
	Order string `json:"order,omitempty"`
}

// Retire drops a key that is not active from the site, for ever.
func (c *CA) Retire(ctx context.Context, fingerprint string) (*Retired, error) {
	c.rotation.Lock()
	defer c.rotation.Unlock()
	site, err := c.site(ctx)
	if err != nil {
		return nil, err
	}
	r := &Retired{Fingerprint: fingerprint}
	if r.Key, _, err = findKey(site.Site, fingerprint); err != nil {
		return nil, err
	}
	if site.Founded && site.Site.Profile != string(policy.Demo) {
		r.Order = r.Key + ":" + fingerprint
		return r, nil
	}
	return r, c.state.Do(ctx, func(tx *state.Tx) error {
		f, err := retire(tx, fingerprint)
		if err != nil {
			return err
		}
		_, _, err = tx.Append(c.entry(ledger.ActorRoot, ledger.Subject{}, f))
		return err
	})
}

// findKey is the key of that fingerprint, and its place in its list.
func findKey(site ledger.Site, fingerprint string) (string, int, error) {
	for _, n := range []string{KeyClientCA, KeySessionCA, KeyHostCA, KeyTLS} {
		for i, k := range *keyList(&site, n) {
			if fingerprintOf(k) != fingerprint {
				continue
			}
			if i == 0 {
				return n, i, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: fmt.Sprintf("%s is the active %s", fingerprint, n),
					Next: []string{"breakglass-ca rotate " + n + " --standby FILE   first"}}
			}
			return n, i, nil
		}
	}
	return "", 0, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("the site trusts no key %q", fingerprint), Next: []string{"breakglass-ca keys"}}
}

// retire is the site without that key.
func retire(tx *state.Tx, fingerprint string) (*ledger.SiteChanged, error) {
	s, err := tx.Site()
	if err != nil {
		return nil, err
	}
	site := s.Site
	n, i, err := findKey(site, fingerprint)
	if err != nil {
		return nil, err
	}
	list := keyList(&site, n)
	site.Retired = append(slices.Clone(site.Retired), ledger.RetiredKey{Kind: n, Key: (*list)[i], Before: tx.Size()})
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	return &ledger.SiteChanged{Site: site, Why: "retired " + n + " " + fingerprint}, nil
}

// SiteKey is one key that the site trusts or trusted.
type SiteKey struct {
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"`
	State       string `json:"state"`             // active, trusted or retired
	Custody     string `json:"custody,omitempty"` // of an active key
}

// Keys lists the site's keys.
func (c *CA) Keys(ctx context.Context) ([]SiteKey, error) {
	site, err := c.site(ctx)
	if err != nil {
		return nil, err
	}
	var out []SiteKey
	for _, l := range c.keys.loaded() {
		out = append(out, SiteKey{l.Name, l.Fingerprint, "active", l.Custody})
		if l.Name == KeyLedger {
			continue
		}
		for _, k := range (*keyList(&site.Site, l.Name))[1:] {
			out = append(out, SiteKey{Key: l.Name, Fingerprint: fingerprintOf(k), State: "trusted"})
		}
		for _, r := range site.Site.Retired {
			if r.Kind == l.Name {
				out = append(out, SiteKey{Key: l.Name, Fingerprint: fingerprintOf(r.Key), State: "retired"})
			}
		}
	}
	return out, nil
}

// orderRotate carries out what was prepared on this machine for exactly this key.
func (c *CA) orderRotate(tx *state.Tx, o *order) (outcome, error) {
	p := c.prepared.Load()
	if p == nil || p.Order != o.Target || !c.now().Before(p.until) {
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeConflict, Detail: "no rotation to that key waits for an order",
			Next: []string{"on the CA's machine: breakglass-ca rotate KEY --standby FILE"}}
	}
	f, err := p.next(tx)
	if err != nil {
		return outcome{}, err
	}
	o.after = func() {
		c.rotation.Lock()
		defer c.rotation.Unlock()
		did, err := c.settled(context.Background(), p)
		if did { // else the order may be given once more
			c.prepared.CompareAndSwap(p, nil)
		}
		if err != nil {
			c.log.Error("rotated, but the configuration still names the old key too", "key", p.Key, "error", err)
		}
	}
	return outcome{facts: f}, nil
}

// orderRetire drops a key.
func (c *CA) orderRetire(tx *state.Tx, o *order) (outcome, error) {
	n, fp, _ := strings.Cut(o.Target, ":")
	f, err := retire(tx, fp)
	if err == nil && !strings.HasPrefix(f.Why, "retired "+n+" ") {
		err = &api.Problem{Status: 404, Code: api.CodeUnknownTarget, Detail: fmt.Sprintf("%s is no %s", fp, n)}
	}
	return outcome{facts: f}, err
}

// isRotation judges the target of an order about a key: KEY:FINGERPRINT.
func isRotation(s string) error {
	n, fp, ok := strings.Cut(s, ":")
	if !ok || keyList(&ledger.Site{}, n) == nil || fp == "" {
		return fmt.Errorf("key %q: want session_ca:SHA256:… as `breakglass-ca rotate` prints it", s)
	}
	return nil
}
