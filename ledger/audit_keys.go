package ledger

import (
	"slices"

	"golang.org/x/crypto/ssh"
)

// siteKeys are the lists of CA keys that a rotation changes, by kind.
var siteKeys = []struct {
	kind string
	of   func(*Site) []string
}{
	{"client_ca", func(s *Site) []string { return s.ClientCA }},
	{"session_ca", func(s *Site) []string { return s.SessionCA }},
	{"host_ca", func(s *Site) []string { return s.HostCA }},
	{"tls", func(s *Site) []string { return s.TLS }},
}

// keysChanged holds a site's keys against those of the site before it: a key becomes active only after hosts, jumps and clients were told to
// trust it, and what is dropped is named for ever.
func (a *Audit) keysChanged(old, s *Site) {
	if len(s.Retired) < len(old.Retired) || !slices.Equal(s.Retired[:len(old.Retired)], old.Retired) {
		a.fault(FaultSite, "forgets a retired key")
		return
	}
	added := s.Retired[len(old.Retired):]
	a.keysOrdered(old, s, added)
	for _, l := range siteKeys {
		was, is := l.of(old), l.of(s)
		if len(is) == 0 {
			a.fault(FaultSite, "has no %s", l.kind)
			continue
		}
		if !a.cfg.Part && !slices.Contains(was, is[0]) { // in a part, sites in between may be absent
			a.fault(FaultSite, "the active %s was not trusted before", l.kind)
		}
		for _, k := range was {
			retired := slices.ContainsFunc(added, func(r RetiredKey) bool { return r.Kind == l.kind && r.Key == k })
			if !slices.Contains(is, k) && !retired {
				a.fault(FaultSite, "drops a %s and does not name it as retired", l.kind)
			}
		}
		for _, r := range s.Retired {
			if r.Kind == l.kind && slices.Contains(is, r.Key) {
				a.fault(FaultSite, "trusts a retired %s", l.kind)
			}
		}
	}
	for _, r := range added {
		if !a.cfg.Part && r.Before != a.index {
			a.fault(FaultSite, "retires a %s as of entry %d", r.Kind, r.Before)
		}
		if !a.cfg.Part && !slices.Contains(keyList(old, r.Kind), r.Key) {
			a.fault(FaultSite, "retires a %s that was not trusted", r.Kind)
		}
	}
}

// keysOrdered demands an operator's order for a site whose CA keys are others than before: local root's word is enough only until people's
// keys can be asked.
func (a *Audit) keysOrdered(old, s *Site, added []RetiredKey) {
	changed := ""
	for _, l := range siteKeys {
		if !slices.Equal(l.of(old), l.of(s)) {
			if changed != "" {
				a.fault(FaultSite, "changes %s and %s together", changed, l.kind)
			}
			changed = l.kind
		}
	}
	was, is := keyList(old, changed), keyList(s, changed)
	switch {
	case changed == "" && len(added) == 0, a.cfg.Part && a.e.Statement == "": // a part has sites in between left out
		return
	case a.e.Statement == "":
		if a.founded && s.Profile != "demo" {
			a.fault(FaultSignature, "CA keys changed after the founding, and no operator signed for it")
		}
	case len(added) == 1:
		a.order("retire-key", added[0].Kind+":"+called(added[0].Key))
		if !a.cfg.Part && !slices.Equal(is, without(was, added[0].Key)) {
			a.fault(FaultStatement, "one key was ordered to be retired, and other %s changed too", changed)
		}
	case changed != "" && len(is) > 0:
		a.order("rotate-key", changed+":"+called(is[0]))
		// The operator named the active key; beside it comes the new standby, which the CA makes with it. Nothing else rides on their word.
		if n := len(was); !a.cfg.Part && (len(is) != n+1 || is[0] == was[0] || !slices.Equal(is[:n], append([]string{is[0]}, without(was, is[0])...))) {
			a.fault(FaultStatement, "one %s was ordered to be rotated, and others changed too", changed)
		}
	}
}

func without(list []string, key string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(k string) bool { return k == key })
}

func keyList(s *Site, kind string) []string {
	for _, l := range siteKeys {
		if l.kind == kind {
			return l.of(s)
		}
	}
	return nil
}

// called is how orders call a key of a site: SHA256:… of an SSH key, the hash itself of TLS.
func called(key string) string {
	if k, err := parseKey(key); err == nil {
		return ssh.FingerprintSHA256(k)
	}
	return key
}

// caStarted demands that the CA holds the keys that the site calls active.
func (a *Audit) caStarted(f *CAStarted) {
	for _, k := range f.Keys {
		want := ""
		for _, l := range siteKeys {
			if l.kind != k.Name {
				continue
			}
			want = called(l.of(a.site)[0])
		}
		if want != "" && k.Fingerprint != want {
			a.fault(FaultSite, "the CA started with %s %s, active is %s", k.Name, k.Fingerprint, want)
		}
		if k.Custody == "file" && a.site.Profile != "demo" {
			a.fault(FaultSite, "the CA started with its %s in a plain file", k.Name)
		}
	}
}

// keysOf is the list of that kind in the site at hand.
func (a *Audit) keysOf(kind string) []string { return keyList(a.site, kind) }

// pinned tells whether the pins trust a CA key, or did when the entry at hand was written.
func (a *Audit) pinned(kind string, k ssh.PublicKey) bool {
	p := a.cfg.Pinned
	if p == nil {
		return true
	}
	same := func(t string) bool {
		q, err := parseKey(t)
		return err == nil && sameKey(k, q)
	}
	for _, l := range siteKeys {
		if l.kind == kind && slices.ContainsFunc(l.of(p), same) {
			return true
		}
	}
	return slices.ContainsFunc(p.Retired, func(r RetiredKey) bool { return r.Kind == kind && a.index < r.Before && same(r.Key) })
}
