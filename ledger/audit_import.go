package ledger

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"breakglass/internal/policytext"
	"breakglass/internal/statement"
)

// This file holds an import against the policy that it was imported into: that an operator of that policy ordered exactly this text behind exactly that
// one, and that it adds what the owners opened and nothing else. It reads the texts by itself, with none of the code by which the CA judged.

func (a *Audit) policyImported(f *PolicyImported) {
	if !a.founded {
		a.fault(FaultOrder, "imported before the site was founded")
	}
	t := a.terms()
	before := a.policies[a.policy]
	if st := a.order(statement.OrderImportHosts, statement.ImportTarget(f.Previous, f.SHA256)); st != nil {
		if st.Detail != sha256.Sum256([]byte(f.Hosts)) {
			a.fault(FaultStatement, "hosts of another text were ordered")
		}
		if a.cfg.Part && !slices.Contains(t.named(t.Site.Operators), st.Person) { // where a whole log's order is asked already
			a.fault(FaultKey, "ordered by %s, who is no operator of the policy in force", st.Person)
		}
	}
	if f.Previous != a.policy {
		a.fault(FaultPolicy, "follows policy %s, in force is %s", f.Previous, a.policy)
	}
	after := a.onlyOpened(before, f.Hosts)
	text, err := policytext.Import(before, f.Hosts)
	if err != nil {
		a.fault(FaultPolicy, "%v", err)
	} else if got := statement.Hash(sha256.Sum256([]byte(text))); got != f.SHA256 {
		a.fault(FaultPolicy, "text has SHA-256 %s, the entry says %s", got, f.SHA256)
		text = ""
	}
	if text == "" {
		a.inForce(f.SHA256, "")
	} else {
		a.follows(f.SHA256, text)
		a.openings, a.openingsOf = after, f.SHA256
	}
	if a.imported == nil {
		a.imported = map[statement.Hash]*PolicyImported{}
	}
	a.imported[f.SHA256] = f
	if a.imported[f.Previous] != nil {
		a.policies[f.Previous] = "" // it follows from the one before: a long policy would stand in memory once for each import
	}
}

// importedText is the text of a policy that follows from imports.
func (a *Audit) importedText(h statement.Hash) string {
	var hosts []string
	for i := a.imported[h]; i != nil && a.policies[h] == ""; i = a.imported[h] {
		hosts = append(hosts, i.Hosts)
		h = i.Previous
		if len(hosts) > len(a.imported) {
			return "" // a circle of hashes is no policy
		}
	}
	slices.Reverse(hosts)
	text := a.policies[h]
	if len(hosts) > 0 && text != "" {
		var err error
		if text, err = policytext.Import(text, strings.Join(hosts, "")); err != nil {
			return ""
		}
	}
	return text
}

// opening is what a file of a policy says that an import is judged by.
type opening struct {
	HostGroups map[string]struct {
		Import bool `toml:"import"`
	} `toml:"host_groups"`
	Hosts map[string]opened `toml:"hosts"`
	Jumps map[string]opened `toml:"jumps"`
	Vias  map[string]opened `toml:"vias"`
	Rules []struct {
		Name  string   `toml:"name"`
		Hosts []string `toml:"hosts"`
	} `toml:"rule"`
}

type opened struct {
	Address  []string `toml:"address"`
	Via      *string  `toml:"via"`
	HostKeys []string `toml:"host_keys"`
	HostCA   []string `toml:"host_ca"`
	Groups   []string `toml:"groups"`
}

// onlyOpened demands that hosts names new machines, each in groups that the policy opens to import and in no other, and that no rule takes one but for
// such a group. It gives what the next import is judged by; nil: to be read anew.
func (a *Audit) onlyOpened(policy, hosts string) *opening {
	was := a.openings
	if was == nil || a.openingsOf != a.policy {
		var err error
		if was, err = readOpening(policy); err != nil {
			a.fault(FaultPolicy, "the policy before: %v", err)
			return nil
		}
	}
	var all map[string]any
	var is opening
	err := toml.Unmarshal([]byte(hosts), &all)
	if err == nil {
		err = toml.Unmarshal([]byte(hosts), &is)
	}
	if err != nil || len(is.Hosts) == 0 || len(all) != 1 {
		a.fault(FaultPolicy, "imports something that is no list of hosts")
		return nil
	}
	for _, n := range slices.Sorted(maps.Keys(is.Hosts)) {
		a.onlyNew(was, n, is.Hosts[n])
		was.Hosts[n] = is.Hosts[n] // two of one import are two machines
	}
	return was
}

func readOpening(policy string) (*opening, error) {
	files, err := policytext.Split(policy)
	if err != nil {
		return nil, err
	}
	var was opening
	for i, f := range files {
		var o opening
		if err := toml.Unmarshal([]byte(f.Text), &o); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if i == 0 {
			was = o
		}
		if was.Hosts == nil {
			was.Hosts = map[string]opened{}
		}
		maps.Copy(was.Hosts, o.Hosts)
	}
	return &was, nil
}

func (a *Audit) onlyNew(was *opening, n string, h opened) {
	if strings.Contains(n, "*") {
		a.fault(FaultPolicy, "imports pattern %q", n)
		return
	}
	if len(h.Groups) == 0 || len(h.Address) == 0 {
		a.fault(FaultPolicy, "imports %q without group or address", n)
	}
	if h.Via != nil {
		a.fault(FaultPolicy, "imports %q, saying through what it is reached", n)
	}
	for _, g := range h.Groups {
		if !was.HostGroups[g].Import {
			a.fault(FaultPolicy, "imports %q into group %q, which the policy doesn't open", n, g)
		}
	}
	covered := opened{}
	for text, known := range was.Hosts {
		if text == n {
			a.fault(FaultPolicy, "imports %q, which is known", n)
		}
		if strings.Contains(text, "*") {
			if fits(text, n) {
				covered.Address, covered.HostKeys = append(covered.Address, known.Address...), slices.Concat(covered.HostKeys, known.HostKeys, known.HostCA)
			}
			continue
		}
		if sameMachine(h.Address, known.Address) {
			a.fault(FaultPolicy, "imports %q at an address of %q", n, text)
		}
		if slices.ContainsFunc(h.HostKeys, func(x string) bool {
			return slices.ContainsFunc(known.HostKeys, func(y string) bool { return keyOf(x) == keyOf(y) })
		}) {
			a.fault(FaultPolicy, "imports %q with the host key of %q", n, text)
		}
	}
	for j, known := range was.Jumps {
		if sameMachine(h.Address, known.Address) {
			a.fault(FaultPolicy, "imports %q at an address of jump %q", n, j)
		}
	}
	for v, known := range was.Vias {
		if sameMachine(h.Address, known.Address) {
			a.fault(FaultPolicy, "imports %q at an address of via %q", n, v)
		}
	}
	if len(covered.Address) > 0 && len(covered.HostKeys) > 0 {
		a.fault(FaultPolicy, "imports %q, which a pattern covers", n)
	}
	for _, r := range was.Rules {
		byName := slices.ContainsFunc(r.Hosts, func(x string) bool { return x == n || fits(x, n) })
		if byName && !slices.ContainsFunc(h.Groups, func(g string) bool { return slices.Contains(r.Hosts, "@"+g) }) {
			a.fault(FaultPolicy, "imports %q, which rule %q takes for its name", n, r.Name)
		}
	}
}

// sameMachine tells whether endpoints name one machine: ports tell its services apart, but for the loopback, behind which other machines may be.
func sameMachine(x, y []string) bool {
	for _, a := range x {
		for _, b := range y {
			if machineOf(a) == machineOf(b) {
				return true
			}
		}
	}
	return false
}

func machineOf(endpoint string) string {
	if ap, err := netip.ParseAddrPort(endpoint); err == nil {
		if ip := ap.Addr().Unmap(); !ip.IsLoopback() {
			return ip.String()
		}
		return ap.String()
	}
	if i := strings.LastIndexByte(endpoint, ':'); i >= 0 {
		endpoint = endpoint[:i]
	}
	return strings.TrimSuffix(strings.ToLower(endpoint), ".")
}

// fits tells whether a name fits a pattern with one '*'.
func fits(pattern, n string) bool {
	prefix, suffix, ok := strings.Cut(pattern, "*")
	return ok && len(n) >= len(prefix)+len(suffix) && strings.HasPrefix(n, prefix) && strings.HasSuffix(n, suffix)
}

// keyOf is a public key line's type and key, without its comment.
func keyOf(line string) string {
	f := strings.Fields(line)
	return strings.Join(f[:min(len(f), 2)], " ")
}
