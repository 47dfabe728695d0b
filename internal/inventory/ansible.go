package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Ansible reads an inventory: the INI form, the YAML form, or the JSON of `ansible-inventory --list`, which has resolved what the others leave to
// Ansible. Of the variables ansible_host and ansible_port count, a host's own before its groups'; groups that contradict each other are refused and
// not ranked. No inventory holds host keys: AddKeys gives them.
func Ansible(text string) (*List, error) {
	if !utf8.ValidString(text) { // no name of the policy's has such bytes, and its text could not hold them
		return nil, fmt.Errorf("%w: it is no UTF-8", ErrFormat)
	}
	inv := &ansible{groups: map[string]*ansibleGroup{}, vars: map[string]map[string]string{}, lines: map[string]int{}}
	var err error
	switch first := firstByte(text); {
	case first == '{':
		err = inv.json(text)
	case yamlLooks(text):
		err = inv.yaml(text)
	default:
		err = inv.ini(text)
	}
	if err != nil {
		return nil, err
	}
	return inv.list(), nil
}

type ansible struct {
	groups  map[string]*ansibleGroup
	vars    map[string]map[string]string // of each host
	lines   map[string]int               // of each host, where there are lines
	refused []Refused
	count   int
}

type ansibleGroup struct {
	hosts, children []string
	vars            map[string]string
}

func firstByte(text string) byte {
	if t := strings.TrimSpace(text); t != "" {
		return t[0]
	}
	return 0
}

// yamlLooks tells YAML from INI by the first line that says something: `all:` or `---`.
func yamlLooks(text string) bool {
	for _, l := range strings.Split(text, "\n") {
		l = strings.TrimRight(l, " \r\t")
		if l == "" || strings.HasPrefix(l, "#") || strings.HasPrefix(l, ";") {
			continue
		}
		return l == "---" || strings.HasSuffix(l, ":") && !strings.HasPrefix(l, "[")
	}
	return false
}

func (a *ansible) group(n string) *ansibleGroup {
	if a.groups[n] == nil {
		a.groups[n] = &ansibleGroup{vars: map[string]string{}}
	}
	return a.groups[n]
}

func (a *ansible) host(n string, line int, vars map[string]string) {
	if a.vars[n] == nil {
		a.vars[n], a.lines[n] = map[string]string{}, line
	}
	maps.Copy(a.vars[n], vars)
}

func (a *ansible) ini(text string) error {
	section, kind := "ungrouped", ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			inner, ok := strings.CutSuffix(strings.TrimSpace(strings.Split(line, " #")[0][1:]), "]")
			section, kind, _ = strings.Cut(inner, ":")
			if !ok || section == "" || kind != "" && kind != "children" && kind != "vars" {
				return fmt.Errorf("%w: line %d: %q begins no section", ErrFormat, i+1, line)
			}
			a.group(section)
			continue
		}
		switch kind {
		case "children":
			a.group(section).children = append(a.group(section).children, strings.Fields(line)[0])
		case "vars":
			k, v, ok := strings.Cut(line, "=")
			if !ok {
				return fmt.Errorf("%w: line %d: want KEY=VALUE", ErrFormat, i+1)
			}
			a.group(section).vars[strings.TrimSpace(k)] = unquote(strings.TrimSpace(v))
		default:
			if err := a.iniHost(section, line, i+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *ansible) iniHost(section, text string, line int) error {
	words, err := shellWords(text)
	if err != nil {
		return fmt.Errorf("%w: line %d: %w", ErrFormat, line, err)
	}
	if len(words) == 0 {
		return nil
	}
	vars := map[string]string{}
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("%w: line %d: %q: want KEY=VALUE behind the host", ErrFormat, line, w)
		}
		vars[k] = v
	}
	names, err := expand(words[0], maxHosts-a.count)
	if err != nil {
		a.refused = append(a.refused, Refused{line, words[0], err.Error(), "ansible-inventory -i FILE --list > hosts.json, and import that"})
		return nil
	}
	a.count += len(names)
	for _, n := range names {
		a.host(n, line, vars)
		g := a.group(section)
		g.hosts = append(g.hosts, n)
	}
	return nil
}

// expand writes out the ranges of a host's name: web[01:03].
func expand(s string, limit int) ([]string, error) {
	before, rest, ok := strings.Cut(s, "[")
	if !ok {
		return []string{s}, nil
	}
	inner, after, ok := strings.Cut(rest, "]")
	from, to, colon := strings.Cut(inner, ":")
	x, err1 := strconv.Atoi(from)
	y, err2 := strconv.Atoi(to)
	if !ok || !colon || err1 != nil || err2 != nil || x < 0 || y < x || len(from) > 9 || strings.ContainsAny(from+to, "+-") {
		return nil, fmt.Errorf("the range in %q is not of numbers", s)
	}
	if y-x >= limit {
		return nil, fmt.Errorf("the range in %q is of more than %d hosts", s, limit)
	}
	var out []string
	for n := x; n <= y; n++ {
		more, err := expand(fmt.Sprintf("%s%0*d%s", before, len(from), n, after), limit-len(out))
		if err != nil {
			return nil, err
		}
		if out = append(out, more...); len(out) > limit {
			return nil, fmt.Errorf("the ranges in %q are of more than %d hosts", s, limit)
		}
	}
	return out, nil
}

// shellWords parts a line as Ansible does: blanks, quotes around a value, a comment behind.
func shellWords(s string) (out []string, err error) {
	var b strings.Builder
	in, quoted := false, rune(0)
	for _, r := range s {
		switch {
		case quoted != 0 && r == quoted:
			quoted = 0
		case quoted != 0:
			b.WriteRune(r)
		case r == '"' || r == '\'':
			quoted, in = r, true
		case r == ' ' || r == '\t':
			if in {
				out = append(out, b.String())
				b.Reset()
			}
			in = false
		case r == '#' && !in:
			return out, nil
		default:
			in = true
			b.WriteRune(r)
		}
	}
	if quoted != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if in {
		out = append(out, b.String())
	}
	return out, nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// yamlGroup is a group as the YAML form nests it.
type yamlGroup struct {
	Hosts    map[string]map[string]any `yaml:"hosts"`
	Children map[string]*yamlGroup     `yaml:"children"`
	Vars     map[string]any            `yaml:"vars"`
}

func (a *ansible) yaml(text string) error {
	var top map[string]*yamlGroup
	if err := yaml.Unmarshal([]byte(text), &top); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return a.nested(top, "", 0)
}

// maxNesting bounds groups of groups.
const maxNesting = 32

func (a *ansible) nested(groups map[string]*yamlGroup, parent string, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("%w: groups are nested deeper than %d", ErrFormat, maxNesting)
	}
	for _, n := range slices.Sorted(maps.Keys(groups)) {
		g := a.group(n)
		if parent != "" {
			p := a.group(parent)
			p.children = appendNew(p.children, n)
		}
		y := groups[n]
		if y == nil {
			continue
		}
		for k, v := range y.Vars {
			g.vars[k] = scalar(v)
		}
		for _, h := range slices.Sorted(maps.Keys(y.Hosts)) {
			names, err := expand(h, maxHosts-a.count)
			if err != nil {
				a.refused = append(a.refused, Refused{0, h, err.Error(), "ansible-inventory -i FILE --list > hosts.json, and import that"})
				continue
			}
			a.count += len(names)
			for _, one := range names {
				a.host(one, 0, scalars(y.Hosts[h]))
				g.hosts = append(g.hosts, one)
			}
		}
		if err := a.nested(y.Children, n, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// json reads what `ansible-inventory --list` prints.
func (a *ansible) json(text string) error {
	var raw map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := d.Decode(&raw); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: something follows the JSON", ErrFormat)
	}
	var meta struct {
		HostVars map[string]map[string]any `json:"hostvars"`
	}
	if m, ok := raw["_meta"]; ok {
		if err := json.Unmarshal(m, &meta); err != nil {
			return fmt.Errorf("%w: _meta: %w", ErrFormat, err)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(raw)) {
		if n == "_meta" {
			continue
		}
		var y struct {
			Hosts    []string       `json:"hosts"`
			Children []string       `json:"children"`
			Vars     map[string]any `json:"vars"`
		}
		if err := json.Unmarshal(raw[n], &y); err != nil {
			return fmt.Errorf("%w: group %q: %w", ErrFormat, n, err)
		}
		g := a.group(n)
		g.hosts, g.children = append(g.hosts, y.Hosts...), append(g.children, y.Children...)
		maps.Copy(g.vars, scalars(y.Vars))
		for _, h := range y.Hosts {
			if a.count++; a.count > maxHosts {
				return fmt.Errorf("%w: more than %d hosts", ErrFormat, maxHosts)
			}
			a.host(h, 0, scalars(meta.HostVars[h]))
		}
	}
	return nil
}

func scalars(m map[string]any) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = scalar(v)
	}
	return out
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// list makes hosts of it: each in all its groups but all and ungrouped, which are every inventory's.
func (a *ansible) list() *List {
	l := &List{Refused: a.refused}
	in := map[string][]string{} // host → groups
	for _, g := range slices.Sorted(maps.Keys(a.groups)) {
		for _, h := range a.members(g, map[string]bool{}) {
			in[h] = appendNew(in[h], g)
		}
	}
	seen := map[string]bool{}
	for _, n := range slices.Sorted(maps.Keys(a.vars)) {
		h := Host{Name: strings.ToLower(n), Line: a.lines[n]}
		at := map[string]string{}
		why := ""
		for _, key := range []string{"ansible_host", "ansible_port"} {
			v, own := a.vars[n][key]
			for _, g := range in[n] {
				if gv, ok := a.groups[g].vars[key]; ok && !own && g != "all" {
					if v != "" && v != gv {
						why = fmt.Sprintf("its groups give it %s %s and %s", key, v, gv)
					}
					v = gv
				}
			}
			if gv := a.group("all").vars[key]; v == "" { // the weakest
				v = gv
			}
			at[key] = v
		}
		if strings.Contains(at["ansible_host"]+at["ansible_port"], "{{") {
			why = "its address is a template, which Ansible alone can fill in"
		}
		for _, g := range in[n] {
			if g != "all" && g != "ungrouped" {
				h.Groups = append(h.Groups, g)
			}
		}
		host := at["ansible_host"]
		if host == "" {
			host = n
		}
		if why == "" {
			if err := checkName(h.Name); err != nil {
				why = err.Error()
			} else if e, err := endpoint(host, at["ansible_port"]); err != nil {
				why = err.Error()
			} else {
				h.Address = []string{e}
			}
		}
		if seen[h.Name] {
			why = "another host is called so, but for capitals"
		}
		seen[h.Name] = true
		if why != "" {
			l.refuse(h.Line, n, "write it by hand, or import what `ansible-inventory --list` makes of it", "%s", why)
			continue
		}
		l.Hosts = append(l.Hosts, h)
	}
	l.sort()
	return l
}

// members are the hosts of a group and of the groups below it.
func (a *ansible) members(g string, seen map[string]bool) []string {
	if seen[g] || a.groups[g] == nil {
		return nil
	}
	seen[g] = true
	out := slices.Clone(a.groups[g].hosts)
	for _, c := range a.groups[g].children {
		out = append(out, a.members(c, seen)...)
	}
	return out
}
