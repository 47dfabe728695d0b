package policy

import (
	"fmt"
	"slices"

	"breakglass/internal/name"
)

// HostGroup is an entry of [host_groups]. A group needs none; one that is opened to import does.
type HostGroup struct {
	Name   name.Group
	Import bool // operators may add new hosts to it with one touch
	Line   int
}

// hostGroupEntries compiles [host_groups]. It comes after the hosts, whose groups need no entry of their own, and before the rules, which may name a
// group that is still empty if hosts can be imported into it.
func (c *compiler) hostGroupEntries(f *file) {
	c.p.opened = map[name.Group]HostGroup{}
	for _, key := range sortedKeys(f.HostGroups) {
		path := []string{"host_groups", key}
		g, err := name.ParseGroup(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		if !c.ix.has("host_groups", key, "import") {
			c.key(path, "write import = true, or leave the entry out: a group is there once a host names it", "host group %q says nothing", key)
		}
		if f.HostGroups[key].Import {
			c.p.opened[g] = HostGroup{Name: g, Import: true, Line: c.line(path...)}
			c.hostGroups[g] = true
		} else if !c.hostGroups[g] {
			c.key(path, suggest(key, sortedKeys(c.hostGroups)), "no host is in group %q", key)
		}
	}
}

// OpenGroups are the groups into which operators may import new hosts, sorted by name.
func (p *Policy) OpenGroups() []HostGroup {
	var out []HostGroup
	for _, n := range sortedKeys(p.opened) {
		out = append(out, p.opened[name.Group(n)])
	}
	return out
}

// openings finds groups that are opened to import though nobody would get anywhere by it.
func (k *checker) openings() {
	for _, g := range k.p.OpenGroups() {
		if !slices.ContainsFunc(k.p.Rules, func(r Rule) bool { return r.hosts.groups[g.Name] }) {
			k.add(SeverityWarning, g.Line, fmt.Sprintf("add \"@%s\" to a rule's hosts, or remove the entry", g.Name), "hosts may be imported into group %q, and no rule opens that", g.Name)
		}
	}
}
