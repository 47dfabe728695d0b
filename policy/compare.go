package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// Change is one thing in which two policies differ. Where something stands in the file is no difference, nor what is in the file's comments.
type Change struct {
	Kind string   `json:"kind"`           // "host", "pattern", "group", "rule", "person", "network", "jump", "via", "window", "oncall", "failure", "site", "always", "enrolment", "profile", "order"
	Name string   `json:"name,omitempty"` // of it; empty where there is one
	What string   `json:"what"`           // Gained, Removed or Modified
	Keys []string `json:"keys,omitempty"` // of a changed thing, what of it: "groups", "address", "host_keys", "host_ca", "minutes" …
}

// What becomes of a thing.
const (
	Gained   = "added"
	Removed  = "removed"
	Modified = "changed"
)

func (c Change) String() string {
	s := c.Kind
	if c.Name != "" {
		s += " " + c.Name
	}
	s += " " + c.What
	if len(c.Keys) > 0 {
		s += ": " + strings.Join(c.Keys, ", ")
	}
	return s
}

// Compare lists what a new policy changes. A host counts as what it is with its patterns' settings filled in: a pattern that changes, changes every host
// that has its settings from it, and each is named. Sorted by kind and name.
func Compare(old, new *Policy) []Change {
	d := &differences{}
	if old.Profile != new.Profile {
		d.add(Change{Kind: "profile", What: Modified})
	}
	d.hosts(old, new)
	each(d, "pattern", patternsOf(old), patternsOf(new), func(a, b *hostEntry) []string { return entryKeys(a, b) })
	each(d, "group", old.opened, new.opened, func(a, b HostGroup) []string { return fields(a, b) })
	each(d, "person", old.people, new.people, func(a, b *Person) []string { return fields(*a, *b) })
	each(d, "network", old.networks, new.networks, func(a, b []netip.Prefix) []string { return unequal(a, b, "networks") })
	each(d, "window", old.Windows, new.Windows, func(a, b *Window) []string { return fields(*a, *b) })
	each(d, "oncall", old.Rosters, new.Rosters, func(a, b *Roster) []string { return fields(*a, *b) })
	each(d, "failure", old.Failures, new.Failures, func(a, b *Failure) []string { return fields(*a, *b) })
	each(d, "via", old.vias, new.vias, func(a, b *Via) []string { return fields(*a, *b) })
	each(d, "jump", jumpsOf(old), jumpsOf(new), func(a, b Jump) []string { return fields(a, b) })
	each(d, "rule", rulesOf(old), rulesOf(new), func(a, b Rule) []string { return fields(a, b) })
	for _, x := range []struct {
		kind     string
		old, new any
	}{{"site", old.Site, new.Site}, {"always", old.Always, new.Always}, {"enrolment", old.Enrolment, new.Enrolment}} {
		if keys := fields(x.old, x.new); len(keys) > 0 {
			d.add(Change{Kind: x.kind, What: Modified, Keys: keys})
		}
	}
	d.order(old, new)
	slices.SortStableFunc(d.list, func(a, b Change) int { return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name)) })
	return d.list
}

type differences struct{ list []Change }

func (d *differences) add(c Change) { d.list = append(d.list, c) }

func (d *differences) hosts(old, new *Policy) {
	each(d, "host", old.hosts, new.hosts, func(a, b *HostInfo) []string { return hostKeysOf(a, b) })
}

// order finds that rules which both have come in another order: the first that fits decides.
func (d *differences) order(old, new *Policy) {
	common := func(p, other *Policy) (out []name.Rule) {
		for i := range p.Rules {
			if _, ok := other.Rule(p.Rules[i].Name); ok {
				out = append(out, p.Rules[i].Name)
			}
		}
		return out
	}
	if !slices.Equal(common(old, new), common(new, old)) {
		d.add(Change{Kind: "order", What: Modified, Keys: []string{"rule"}})
	}
}

// each compares what two policies have under the same names.
func each[K ~string, V any](d *differences, kind string, old, new map[K]V, differ func(a, b V) []string) {
	for n, a := range old {
		b, ok := new[n]
		if !ok {
			d.add(Change{Kind: kind, Name: string(n), What: Removed})
		} else if keys := differ(a, b); len(keys) > 0 {
			d.add(Change{Kind: kind, Name: string(n), What: Modified, Keys: keys})
		}
	}
	for n := range new {
		if _, ok := old[n]; !ok {
			d.add(Change{Kind: kind, Name: string(n), What: Gained})
		}
	}
}

// hostKeysOf says in what a host differs. Which entry gives it that is no difference.
func hostKeysOf(a, b *HostInfo) (out []string) {
	out = append(out, unequal(a.Groups, b.Groups, "groups")...)
	out = append(out, unequal(a.Address, b.Address, "address")...)
	if a.Via != b.Via {
		out = append(out, "via")
	}
	if a.ClockSlack != b.ClockSlack {
		out = append(out, "clock_slack")
	}
	out = append(out, otherKeys(a.HostKeys, b.HostKeys, "host_keys")...)
	return append(out, otherKeys(a.HostCA, b.HostCA, "host_ca")...)
}

func entryKeys(a, b *hostEntry) (out []string) {
	if a.hasGroups != b.hasGroups || !slices.Equal(a.groups, b.groups) {
		out = append(out, "groups")
	}
	if a.hasAddress != b.hasAddress || !slices.Equal(a.address, b.address) {
		out = append(out, "address")
	}
	if a.hasVia != b.hasVia || a.via != b.via {
		out = append(out, "via")
	}
	if a.hasSlack != b.hasSlack || a.slack != b.slack {
		out = append(out, "clock_slack")
	}
	if a.hasKeys != b.hasKeys {
		return append(out, "host_keys")
	}
	out = append(out, otherKeys(a.keys, b.keys, "host_keys")...)
	return append(out, otherKeys(a.cas, b.cas, "host_ca")...)
}

func otherKeys(a, b []ssh.PublicKey, key string) []string {
	if slices.EqualFunc(a, b, func(x, y ssh.PublicKey) bool { return bytes.Equal(x.Marshal(), y.Marshal()) }) {
		return nil
	}
	return []string{key}
}

func unequal[T comparable](a, b []T, key string) []string {
	if slices.Equal(a, b) {
		return nil
	}
	return []string{key}
}

// fields names the exported fields in which two values of a type differ, as the file spells them. Lines are where, not what.
func fields(a, b any) (out []string) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		f := x.Type().Field(i)
		switch {
		case f.Anonymous:
			out = append(out, fields(x.Field(i).Interface(), y.Field(i).Interface())...)
		case !f.IsExported() || f.Name == "Line" || f.Name == "File":
		case !reflect.DeepEqual(orEmpty(x.Field(i)), orEmpty(y.Field(i))):
			out = append(out, snake(f.Name))
		}
	}
	return out
}

// orEmpty makes no list and an empty one the same, and a zone its name.
func orEmpty(v reflect.Value) any {
	if z, ok := v.Interface().(*time.Location); ok { // it also holds what is true of the day on which it was read
		return z.String()
	}
	if (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 {
		return reflect.Zero(v.Type()).Interface()
	}
	return v.Interface()
}

// snake spells a field's name as the file does: MaxGrants is max_grants, ASNs asns, TOTP totp.
func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		upper := r >= 'A' && r <= 'Z'
		if upper && i > 0 && (s[i-1] >= 'a' && s[i-1] <= 'z') {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}

func patternsOf(p *Policy) map[string]*hostEntry {
	out := make(map[string]*hostEntry, len(p.patterns))
	for i := range p.patterns {
		out[p.patterns[i].text] = &p.patterns[i]
	}
	return out
}

func jumpsOf(p *Policy) map[name.Jump]Jump {
	out := make(map[name.Jump]Jump, len(p.jumps))
	for _, j := range p.jumps {
		out[j.Name] = j
	}
	return out
}

func rulesOf(p *Policy) map[name.Rule]Rule {
	out := make(map[name.Rule]Rule, len(p.Rules))
	for _, r := range p.Rules {
		out[r.Name] = r
	}
	return out
}

// Summary counts changes in a line: "3 hosts added, 1 rule changed".
func Summary(list []Change) string {
	type key struct{ kind, what string }
	count := map[key]int{}
	var order []key
	for _, c := range list {
		k := key{c.Kind, c.What}
		if count[k] == 0 {
			order = append(order, k)
		}
		count[k]++
	}
	var out []string
	for _, k := range order {
		noun := k.kind
		if count[k] != 1 {
			noun += "s"
		}
		out = append(out, fmt.Sprintf("%d %s %s", count[k], noun, k.what))
	}
	if len(out) == 0 {
		return "no change"
	}
	return strings.Join(out, ", ")
}
