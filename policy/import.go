package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/policytext"
)

// This file says what one operator may add to a policy that the owners signed: new hosts, in groups that they opened, and nothing else. The question is
// always the same: would anybody get more by it than the owners gave when they opened the group? Who may break into what there already is stays the
// owners' alone to change, and so nothing that an import names may be a machine that is there already, under whatever name.

// MaxImport is how long the text of one import may be, in bytes: it stands in one entry of the ledger, beside the operator's statement and signature.
const MaxImport = 24 << 10

// ImportFile is what faults in an import's text are said to stand in.
const ImportFile = "import"

// Refusal is why one host can't be imported.
type Refusal struct {
	Host    string     `json:"host"` // as written
	Line    int        `json:"line"` // of the import's text
	Code    ImportCode `json:"code"`
	Message string     `json:"message"` // a sentence
	Next    string     `json:"next"`    // what to do instead
}

// ImportCode sorts refusals for programs.
type ImportCode string

const (
	ImportPattern     ImportCode = "pattern"       // it stands for many
	ImportKnown       ImportCode = "known"         // there is such a host
	ImportNoGroup     ImportCode = "no_group"      // it would be in none
	ImportGroupClosed ImportCode = "group_closed"  // the owners didn't open that group
	ImportNoAddress   ImportCode = "no_address"    // it doesn't say where it is
	ImportVia         ImportCode = "via"           // it says through what it is reached
	ImportByName      ImportCode = "by_name"       // a rule takes it, and not for its group
	ImportSameAddress ImportCode = "same_address"  // a machine is there under that address
	ImportSameKey     ImportCode = "same_host_key" // a machine has that key
)

// ImportError is every host of an import that is refused. Nothing of such an import happens.
type ImportError struct{ Refused []Refusal }

func (e *ImportError) Error() string {
	var b strings.Builder
	for i, r := range e.Refused {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s:%d: %s; %s", ImportFile, r.Line, r.Message, r.Next)
	}
	return b.String()
}

// ErrImport is what the error of an import wraps that is wrong as a whole.
var ErrImport = errors.New("the import is refused")

// Import gives the policy after hosts, the text of a file of [hosts.NAME], was imported into p, and the hosts that are new. Its error is an *ImportError,
// a *LoadError or *TestError about the text, or wraps ErrImport.
//
// A name that a pattern covers with address and keys is a known host too, and refused: people reach it already, by the pattern's groups, and an entry of
// its own would take it out of them and into others. Where a pattern gives keys alone ([hosts."*"] with the site's host CA), the name is unknown, and an
// import may stand on those keys: the owners signed them.
func Import(p *Policy, hosts string) (*Policy, []HostInfo, error) {
	if len(hosts) > MaxImport {
		return nil, nil, fmt.Errorf("%w: it is %d bytes long, at most %d go into one", ErrImport, len(hosts), MaxImport)
	}
	g, err := readImport(p, hosts)
	if err != nil {
		return nil, nil, err
	}
	text, err := policytext.Import(string(p.Source), hosts)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrImport, err)
	}
	q, err := Load("policy in force", []byte(text))
	if err != nil {
		return nil, nil, inImport(err, text, hosts)
	}
	for _, n := range g.names {
		g.judge(p, q, n)
	}
	if len(g.refused) > 0 {
		return nil, nil, &ImportError{g.refused}
	}
	// The second net: whatever the text says, and however it is read together with what stood there, it has added these hosts and changed nothing.
	for _, c := range Compare(p, q) {
		if c.Kind != "host" || c.What != Gained || !slices.Contains(g.names, name.Host(c.Name)) {
			return nil, nil, fmt.Errorf("%w: it would not only add hosts: %s", ErrImport, c)
		}
	}
	var added []HostInfo
	for _, n := range g.names {
		added = append(added, *q.hosts[n])
	}
	return q, added, nil
}

// importing is one import being judged.
type importing struct {
	names   []name.Host // in the order of the text
	lines   map[name.Host]int
	own     map[name.Host]fileHost // as written
	refused []Refusal
	at      *machines
}

func (g *importing) refuse(host string, line int, code ImportCode, next, format string, args ...any) {
	g.refused = append(g.refused, Refusal{host, line, code, printable(fmt.Sprintf(format, args...)), next})
}

// readImport reads the text by itself: what can't stand alone must not be read together with what stands before it in the file, whose last table it
// could go on with.
func readImport(p *Policy, hosts string) (g *importing, err error) {
	c := &compiler{faults: newFaults([]byte(hosts))}
	c.parts = []part{{line: 1}, {name: ImportFile, line: 1, src: c.src}}
	c.until(func() { g, err = c.readImport(p, hosts) })
	if err == nil {
		err = c.err("") // of an end before its time
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (c *compiler) readImport(p *Policy, hosts string) (*importing, error) {
	src := c.src
	if !utf8.ValidString(hosts) { // the ledger holds it as JSON, which has no other text
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrImport)
	}
	if i := strings.IndexFunc(hosts, func(r rune) bool { return isControl(r) && r != '\n' && r != '\t' }); i >= 0 { // in comments too: they are read in diffs
		c.span(span{i, 1}, "", "a control character")
		return nil, c.err("")
	}
	f, ok := decode(src, &c.faults)
	if err := c.err(""); err != nil || !ok {
		return nil, err
	}
	if len(f.Hosts) == 0 {
		return nil, fmt.Errorf("%w: there is no [hosts.NAME] in it", ErrImport)
	}
	g := &importing{lines: map[name.Host]int{}, own: map[name.Host]fileHost{}, at: machinesOf(p)}
	for _, key := range sortedKeys(f.Hosts) {
		_, line := c.where(hostsTable, key)
		n, err := name.ParseHost(key)
		switch known := p.host(name.Host(key)); {
		case strings.Contains(key, "*"):
			g.refuse(key, line, ImportPattern, "write the names out, or put it into the owners' next policy", "%q is a pattern: it would take in hosts that nobody has named", key)
		case err != nil:
			c.key([]string{hostsTable, key}, "", "%v", err)
		case c.ix.has(hostsTable, key, "via"): // "direct" too: which bastion is passed, and by which login, is the owners' to say
			g.refuse(key, line, ImportVia, "leave via out, or put the host into the owners' next policy", "%s says through what it is reached", key)
		case known != nil:
			g.refuse(key, line, ImportKnown, "what is known of a host is changed by the owners' next policy", "%s is known already: %s", key, knownBy(known))
		}
		g.names = append(g.names, n)
		g.lines[n], g.own[n] = line, f.Hosts[key]
	}
	if err := c.err(""); err != nil {
		return nil, err
	}
	slices.SortStableFunc(g.names, func(a, b name.Host) int { return g.lines[a] - g.lines[b] })
	if len(g.refused) > 0 {
		return nil, &ImportError{g.refused}
	}
	return g, nil
}

func knownBy(h *HostInfo) string {
	if h.Entry == string(h.Name) {
		return "it has an entry in " + standsIn(h.File, h.Line)
	}
	return fmt.Sprintf("%q in %s says where it is and by which key it is known", h.Entry, standsIn(h.File, h.Line))
}

// judge holds one host, as it would be, against the policy before.
func (g *importing) judge(p, q *Policy, n name.Host) {
	h, own, line := q.hosts[n], g.own[n], g.lines[n]
	no := func(code ImportCode, next, format string, args ...any) {
		g.refuse(string(n), line, code, next, format, args...)
	}
	const owners = "or put it into the owners' next policy"
	if len(own.Address) == 0 {
		no(ImportNoAddress, `write address = ["10.0.0.5:22"], `+owners, "%s doesn't say where it is", n)
	}
	if len(own.Groups) == 0 {
		no(ImportNoGroup, g.writeGroups(p), "%s is in no group", n)
	}
	for _, group := range h.Groups {
		if _, open := p.opened[group]; !open {
			no(ImportGroupClosed, g.writeGroups(p), "%s would be in group %q, which the policy doesn't open to import", n, group)
		}
	}
	for i := range q.Rules {
		r := &q.Rules[i]
		if !r.hosts.has(h) || slices.ContainsFunc(h.Groups, func(x name.Group) bool { return r.hosts.groups[x] }) {
			continue
		}
		no(ImportByName, "choose another name, "+owners, "rule %q would take %s for its name, and not for a group that is opened to import", r.Name, n)
	}
	for _, a := range h.Address {
		if other := g.at.taken(p, a); other != "" {
			no(ImportSameAddress, owners[3:], "%s is at %s, and so is %s: one machine under two names would be under two sets of rules", n, a, other)
			break
		}
	}
	for _, k := range h.HostKeys {
		if other := g.at.keys[string(k.Marshal())]; other != "" && len(own.HostKeys) > 0 {
			no(ImportSameKey, "if it is the same machine, it has a name; if not, give it a key of its own, "+owners, "%s has the host key of %s (%s)", n, other, ssh.FingerprintSHA256(k))
			break
		}
	}
	g.at.add(h) // two of one import mustn't be one machine either
}

func (g *importing) writeGroups(p *Policy) string {
	open := p.OpenGroups()
	if len(open) == 0 {
		return "no group is opened: the owners write [host_groups.NAME] import = true, or put the host into their next policy"
	}
	var names []name.Group
	for _, o := range open {
		names = append(names, o.Name)
	}
	return "opened are: " + words(names)
}

// machines tells by which address and key each machine is known.
type machines struct {
	at, keys map[string]string // → who has it
}

func machinesOf(p *Policy) *machines {
	m := &machines{at: map[string]string{}, keys: map[string]string{}}
	for _, n := range p.HostNames() {
		m.add(p.hosts[n])
	}
	for i := range p.patterns {
		for _, k := range p.patterns[i].keys {
			m.keys[string(k.Marshal())] = fmt.Sprintf("%q", p.patterns[i].text)
		}
	}
	for _, j := range p.jumps {
		for _, a := range j.Address {
			m.at[machineAt(a)] = fmt.Sprintf("jump %q", j.Name)
		}
	}
	for _, v := range p.Vias() {
		for _, a := range v.Address {
			m.at[machineAt(a)] = fmt.Sprintf("via %q", v.Name)
		}
		for _, k := range v.HostKeys {
			m.keys[string(k.Marshal())] = fmt.Sprintf("via %q", v.Name)
		}
	}
	return m
}

func (m *machines) add(h *HostInfo) {
	for _, a := range h.Address {
		if at := machineAt(a); m.at[at] == "" {
			m.at[at] = string(h.Name)
		}
	}
	for _, k := range h.HostKeys {
		if key := string(k.Marshal()); m.keys[key] == "" {
			m.keys[key] = string(h.Name)
		}
	}
}

// taken says who is at an address: a host or jump of the policy, or a host that only a pattern of it covers.
func (m *machines) taken(p *Policy, endpoint string) string {
	at := machineAt(endpoint)
	if who := m.at[at]; who != "" {
		return who
	}
	for i := range p.patterns {
		e := &p.patterns[i]
		for _, template := range e.address {
			template = strings.TrimSuffix(strings.ToLower(withoutPort(template)), ".") // as machineAt writes it
			k := strings.Count(template, hostPlaceholder)
			if k == 0 {
				continue
			}
			before, _, _ := strings.Cut(template, hostPlaceholder)
			length := (len(at) - len(template) + k*len(hostPlaceholder)) / k
			if length < 1 || len(before)+length > len(at) {
				continue
			}
			n := at[len(before) : len(before)+length]
			if strings.ReplaceAll(template, hostPlaceholder, n) == at && e.pattern.match(name.Host(n)) && p.host(name.Host(n)) != nil {
				return n
			}
		}
	}
	return ""
}

// machineAt is the machine that an endpoint names: ports tell services apart, not machines. Only on the loopback, where the jump's own machine forwards
// to others, they do.
func machineAt(endpoint string) string {
	if ip, ok := endpointIP(endpoint); ok {
		if ip.IsLoopback() {
			return endpoint
		}
		return ip.String()
	}
	at := withoutPort(endpoint)
	if ip, err := netip.ParseAddr(strings.Trim(at, "[]")); err == nil {
		return ip.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(at), ".")
}

func withoutPort(endpoint string) string {
	if i := strings.LastIndexByte(endpoint, ':'); i >= 0 {
		return endpoint[:i]
	}
	return endpoint
}

// inImport says of faults in the text after the import where they stand in the import's own.
func inImport(err error, text, hosts string) error {
	var le *LoadError
	if !errors.As(err, &le) {
		return err
	}
	before := 0
	if files, serr := policytext.Split(text); serr == nil {
		before = strings.Count(files[len(files)-1].Text, "\n") - strings.Count(hosts, "\n")
	}
	for i := range le.Faults {
		if f := &le.Faults[i]; f.File == policytext.Imported && f.Line > before {
			f.File, f.Line = ImportFile, f.Line-before
		}
	}
	return &LoadError{File: "", Faults: le.Faults}
}
