package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
)

// compiler turns a file into a Policy and goes on after each fault, so that all are shown at once.
type compiler struct {
	faults
	p            *Policy
	personGroups map[name.Group]map[name.Person]bool
	hostGroups   map[name.Group]bool
	parsedKeys   map[string]ssh.PublicKey // by their line: one host CA stands at many hosts
	expanded     int                      // people and networks that names in lists stand for, so far
	rulePatterns int                      // patterns of rules, so far
}

func (c *compiler) compile(f *file) {
	c.people(f)
	c.networks(f)
	c.windows(f)
	c.oncall(f)
	c.failures(f)
	c.profile(f)
	c.site(f)
	c.always(f)
	c.enrolment(f)
	c.jumps(f)
	c.vias(f)
	c.hosts(f)
	c.hostGroupEntries(f)
	if len(f.Rules) > maxRules {
		c.key([]string{"rule", strconv.Itoa(maxRules)}, "name groups in fewer rules", "more than %d rules", maxRules)
	}
	for i := range f.Rules[:min(len(f.Rules), maxRules)] {
		c.rule(&f.Rules[i], i)
	}
	c.p.index()
	if len(f.Rules) == 0 {
		c.key(nil, "", "there is no [[rule]]: nobody could ever get in")
	}
	seen := map[string]bool{}
	for i := range f.Tests {
		c.test(&f.Tests[i], i, seen)
	}
}

func (c *compiler) line(path ...string) int {
	line, _ := c.lineAt(c.ix.key(path).offset)
	return line
}

func (c *compiler) profile(f *file) {
	switch Profile(f.Profile) {
	case Demo, Production:
		c.p.Profile = Profile(f.Profile)
	case "":
		c.at([]string{"profile"}, `write profile = "production" (or "demo") as the first line`, "profile is missing")
	default:
		c.at([]string{"profile"}, `want "production" or "demo"`, "unknown profile %q", f.Profile)
	}
}

func (c *compiler) people(f *file) {
	c.p.people = map[name.Person]*Person{}
	c.personGroups = map[name.Group]map[name.Person]bool{}
	for _, key := range sortedKeys(f.People) {
		path := []string{"people", key}
		n, err := name.ParsePerson(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		q := &Person{Name: n, Contact: f.People[key].Contact, Line: c.line(path...)}
		if strings.ContainsFunc(q.Contact, isControl) {
			c.at(append(path, "contact"), "", "a control character in the contact")
		}
		q.Groups = c.groups(f.People[key].Groups, append(path, "groups"))
		for _, g := range q.Groups {
			if c.personGroups[g] == nil {
				c.personGroups[g] = map[name.Person]bool{}
			}
			c.personGroups[g][n] = true
		}
		c.p.people[n] = q
	}
	if len(f.People) == 0 {
		c.key([]string{"people"}, "", "there are no people: write [people.NAME]")
	}
}

// groups reads the groups that an entry is in. They are names, without the '@' of a reference.
func (c *compiler) groups(list, path []string) []name.Group {
	var out []name.Group
	for i, s := range list {
		g, err := name.ParseGroup(s)
		if err != nil {
			hint := ""
			if strings.HasPrefix(s, "@") {
				hint = fmt.Sprintf("write %q: the @ is for rules", s[1:])
			}
			c.at(element(path, i), hint, "%v", err)
			continue
		}
		out = append(out, g)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *compiler) networks(f *file) {
	c.p.networks = map[name.Network][]netip.Prefix{}
	c.p.netLines = map[name.Network]int{}
	for _, key := range sortedKeys(f.Networks) {
		path := []string{"networks", key}
		n, err := name.ParseNetwork(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		if len(f.Networks[key]) == 0 {
			c.key(path, "", "network %q is empty", key)
		}
		c.p.networks[n] = c.prefixes(f.Networks[key], path)
		c.p.netLines[n] = c.line(path...)
	}
}

func (c *compiler) prefixes(list, path []string) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		p, hint, err := parsePrefix(s)
		if err != nil {
			c.at(element(path, i), hint, "%v", err)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (c *compiler) site(f *file) {
	if !c.ix.has("site") {
		c.key([]string{"site"}, "", "there is no [site]")
		return
	}
	// The name becomes part of the CA's origin and so of every signed statement and checkpoint.
	if _, err := name.ParseHost(f.Site.Name); err != nil {
		c.at([]string{"site", "name"}, `write something like name = "example"`, "the site's name: %v", err)
	}
	c.p.Site.Name = f.Site.Name
	list := func(key, why string, l []string, required bool) []name.Person {
		path := []string{"site", key}
		if len(l) == 0 && required {
			c.at(path, "", "[site] needs %s: %s", key, why)
		}
		out := make([]name.Person, 0, len(l))
		for n := range c.persons(l, path) {
			out = append(out, n)
		}
		slices.Sort(out)
		return out
	}
	c.p.Site.Owners = list("owners", "nobody could change the policy", f.Site.Owners, true)
	c.p.Site.Signers = c.signers(f)
	c.p.Site.Operators = list("operators", "nobody could invite, join or revoke", f.Site.Operators, true)
	c.p.Site.Readers = list("readers", "without a reader no session can be recorded, so none opens", f.Site.Readers, true)
}

// persons resolves a list of people and @groups.
func (c *compiler) persons(list, path []string) map[name.Person]bool {
	out := map[name.Person]bool{}
	for i, s := range list {
		if g, ok := strings.CutPrefix(s, "@"); ok {
			members, known := c.personGroups[name.Group(g)]
			if !known {
				c.at(element(path, i), suggest(s, prefixed(sortedKeys(c.personGroups))), "no person is in group %q", s)
			}
			c.expand(len(members), element(path, i))
			for n := range members {
				out[n] = true
			}
			continue
		}
		if c.p.people[name.Person(s)] == nil {
			hint := suggest(s, append(sortedKeys(c.p.people), prefixed(sortedKeys(c.personGroups))...))
			if c.personGroups[name.Group(s)] != nil {
				hint = fmt.Sprintf("a group is written %q", "@"+s)
			}
			c.at(element(path, i), hint, "unknown person %q", s)
			continue
		}
		out[name.Person(s)] = true
	}
	return out
}

func (c *compiler) networkNames(list, path []string) ([]name.Network, []netip.Prefix) {
	var names []name.Network
	var all []netip.Prefix
	for i, s := range list {
		prefixes, ok := c.p.networks[name.Network(s)]
		if !ok {
			c.at(element(path, i), suggest(s, sortedKeys(c.p.networks)), "unknown network %q", s)
			continue
		}
		c.expand(len(prefixes), element(path, i))
		names, all = append(names, name.Network(s)), append(all, prefixes...)
	}
	return names, all
}

func (c *compiler) always(f *file) {
	a, in := &c.p.Always, &f.Always
	at := func(key string) []string { return []string{"always", key} }
	a.Line = c.line("always")
	a.UV = in.UV || !c.ix.has(at("uv")...)
	a.ReasonMin = c.number(in.ReasonMin, at("reason_min"), DefaultReasonMin, 1, maxReasonMin)
	a.Place = c.place(&filePlace{in.Networks, in.DenyNetworks, in.Countries, in.DenyCountries, in.Subdivisions, in.ASNs, in.DenyASNs, in.Anonymous}, at, true)
	a.Trusted, a.trusted = c.networkNames(in.Trusted, at("trusted"))
	a.GeoMaxAge = time.Duration(c.number(in.GeoMaxAgeDays, at("geo_max_age_days"), DefaultGeoMaxAgeDays, 1, maxGeoAgeDays)) * 24 * time.Hour
	a.MaxMinutes = c.number(in.MaxMinutes, at("max_minutes"), DefaultMaxMinutes, 1, MaxGrantMinutes)
	a.Grace = c.duration(in.Grace, at("grace"), DefaultGrace)
	a.Idle = c.duration(in.Idle, at("idle"), DefaultIdle)
	a.Budget = c.size(in.Budget, at("budget"), DefaultBudget)
	a.ShowWatchers = in.ShowWatchers || !c.ix.has(at("show_watchers")...)
	a.RetainDays = c.number(in.RetainDays, at("retain_days"), 0, 1, maxRetainDays)
	a.Override = c.override(in.Override, at("override"), DefaultOverride)
	c.measures(in, at)
	c.placeMeasures(in, at)
	if c.ix.has(at("approvers")...) && len(in.Approvers) == 0 {
		c.at(at("approvers"), "leave the key out: then owners and operators approve", "an empty list of approvers")
	}
	approvers := c.persons(in.Approvers, at("approvers"))
	if len(approvers) == 0 {
		for _, n := range slices.Concat(c.p.Site.Owners, c.p.Site.Operators) {
			approvers[n] = true
		}
	}
	for n := range approvers {
		a.Approvers = append(a.Approvers, n)
	}
	slices.Sort(a.Approvers)
}

func (c *compiler) number(n int, path []string, otherwise, low, high int) int {
	if !c.ix.has(path...) {
		return otherwise
	}
	if n < low || n > high {
		c.at(path, fmt.Sprintf("want %d to %d", low, high), "%s = %d", path[len(path)-1], n)
	}
	return n
}

// duration reads "30m". Whole seconds: the wire and the certificates know nothing finer.
func (c *compiler) duration(s string, path []string, otherwise time.Duration) time.Duration {
	if !c.ix.has(path...) {
		return otherwise
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > maxDuration || d%time.Second != 0 {
		c.at(path, `write it like "30m", "90s" or "1h", at most 24h`, "%s = %q", path[len(path)-1], s)
	}
	return d
}

func (c *compiler) anonymous(s string, path []string, otherwise bool) bool {
	if !c.ix.has(path...) {
		return otherwise
	}
	if s != "deny" && s != "allow" {
		c.at(path, `want "deny" or "allow"`, "anonymous = %q", s)
	}
	return s != "allow"
}

func (c *compiler) endpoints(list, path []string, pattern bool) []string {
	var out []string
	for i, s := range list {
		sample := strings.ReplaceAll(s, hostPlaceholder, "x")
		checked, err := parseEndpoint(sample)
		switch {
		case err != nil && s == hostPlaceholder:
			c.at(element(path, i), fmt.Sprintf("write %q", hostPlaceholder+":22"), "%q has no port", s)
		case err != nil:
			hint := `write it like "10.0.0.5:22"`
			if strings.Contains(err.Error(), "want") { // it says so itself
				hint = ""
			}
			c.at(element(path, i), hint, "address %v", err)
		case pattern && sample == s:
			c.at(element(path, i), "write "+hostPlaceholder+" where the name goes", "every host of the pattern would be the one machine at %q", s)
		case sample == s:
			out = append(out, checked)
		default:
			out = append(out, s)
		}
	}
	if c.ix.has(path...) && len(list) == 0 {
		c.at(path, "", "an empty list of addresses")
	}
	return out
}

func (c *compiler) jumps(f *file) {
	for _, key := range sortedKeys(f.Jumps) {
		path := []string{"jumps", key}
		n, err := name.ParseJump(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		j := Jump{Name: n, Line: c.line(path...)}
		j.Address = c.endpoints(f.Jumps[key].Address, append(path, "address"), false)
		for i, s := range f.Jumps[key].Address {
			if strings.Contains(s, hostPlaceholder) {
				c.at(element(append(path, "address"), i), "", "%s stands for a target host, not for a jump", hostPlaceholder)
			}
		}
		j.Source = c.prefixes(f.Jumps[key].Source, append(path, "source"))
		if !c.ix.has("jumps", key, "source") {
			for _, a := range j.Address {
				if ip, ok := endpointIP(a); ok {
					j.Source = append(j.Source, netip.PrefixFrom(ip, ip.BitLen()))
				}
			}
		}
		c.p.jumps = append(c.p.jumps, j)
	}
}

func (c *compiler) hosts(f *file) {
	c.p.hosts = map[name.Host]*HostInfo{}
	c.p.hostLines = map[string]int{}
	c.hostGroups = map[name.Group]bool{}
	literal := map[name.Host]*hostEntry{}
	for _, key := range sortedKeys(f.Hosts) {
		path := []string{"hosts", key}
		in := f.Hosts[key]
		isPattern := strings.Contains(key, "*")
		e := hostEntry{text: key}
		e.file, e.line = c.where(path...)
		e.hasAddress = c.ix.has("hosts", key, "address")
		e.hasKeys = c.ix.has("hosts", key, "host_keys") || c.ix.has("hosts", key, "host_ca")
		e.hasGroups = c.ix.has("hosts", key, "groups")
		e.address = c.endpoints(in.Address, append(path, "address"), isPattern)
		e.keys = c.hostKeys(in.HostKeys, append(path, "host_keys"))
		e.cas = c.hostKeys(in.HostCA, append(path, "host_ca"))
		e.groups = c.groups(in.Groups, append(path, "groups"))
		e.hasVia = c.ix.has("hosts", key, "via")
		e.via = c.via(in.Via, append(path, "via"))
		e.hasSlack = c.ix.has("hosts", key, "clock_slack")
		e.slack = c.clockSlack(in.ClockSlack, append(path, "clock_slack"))
		for _, g := range e.groups {
			c.hostGroups[g] = true
		}
		c.p.hostLines[key] = e.line
		if isPattern {
			pat, err := parsePattern(key)
			if err != nil {
				c.key(path, "", "%v", err)
				continue
			}
			e.pattern = pat
			c.addPattern(e, path)
			continue
		}
		n, err := name.ParseHost(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		literal[n] = &e
	}
	slices.SortStableFunc(c.p.patterns, func(a, b hostEntry) int { return b.pattern.fixed() - a.pattern.fixed() })
	bad := len(c.list) > 0 // then what is missing may only be misspelt
	for n, e := range literal {
		info := resolve(n, e, c.p.patterns)
		c.p.hosts[n] = info
		path := []string{"hosts", string(n)}
		switch {
		case bad:
		case len(info.Address) == 0:
			c.key(path, `write address = ["10.0.0.5:22"]`, "host %q has no address", n)
		case !addressesValid(info.Address):
			c.key(path, "", "host %q has no usable address: %s", n, strings.Join(info.Address, ", "))
		case !info.complete():
			c.key(path, "write host_keys or host_ca: nothing is trusted on first use", "host %q has no key to check it by", n)
		default:
			c.viaLoop(info, path)
		}
	}
	if len(f.Hosts) == 0 {
		c.key([]string{"hosts"}, "", "there are no hosts: write [hosts.NAME]")
	}
}

// clockSlack reads how far a host's clock may be off. Less than the least would be no gain: a certificate's key never leaves memory.
func (c *compiler) clockSlack(s string, path []string) time.Duration {
	before := len(c.list)
	d := c.duration(s, path, DefaultClockSlack)
	if len(c.list) == before && (d < DefaultClockSlack || d > maxClockSlack) {
		c.at(path, `write it like "20m"; a clock that is further off than 12h is to be set`, "clock_slack = %q: want 5m to 12h", s)
		return DefaultClockSlack
	}
	return d
}

func (c *compiler) hostKeys(list, path []string) []ssh.PublicKey {
	var out []ssh.PublicKey
	for i, s := range list {
		if k := c.parsedKeys[s]; k != nil {
			out = append(out, k)
			continue
		}
		k, err := parseHostKey(s)
		if err != nil {
			c.at(element(path, i), "paste the line of /etc/ssh/ssh_host_ed25519_key.pub", "host key: %v", err)
			continue
		}
		if c.parsedKeys == nil {
			c.parsedKeys = map[string]ssh.PublicKey{}
		}
		c.parsedKeys[s] = k
		out = append(out, k)
	}
	if c.ix.has(path...) && len(list) == 0 {
		c.at(path, "", "an empty list of keys")
	}
	return out
}

func (c *compiler) rule(in *fileRule, i int) {
	at := func(key string) []string { return []string{"rule", strconv.Itoa(i), key} }
	r := Rule{Why: in.Why, Drill: in.Drill, TOTP: in.TOTP, Veto: in.Veto, Line: c.line("rule", strconv.Itoa(i))}
	r.Place = c.place(&filePlace{in.Networks, in.DenyNetworks, in.Countries, in.DenyCountries, in.Subdivisions, in.ASNs, in.DenyASNs, in.Anonymous}, at, false)
	var err error
	if r.Name, err = name.ParseRule(in.Name); err != nil {
		c.at(at("name"), "", "the rule's name: %v", err)
	}
	for j := range c.p.Rules {
		if len(c.list) >= maxFaults {
			break // no more are shown, and thousands of rules of one name would take minutes
		}
		if other := &c.p.Rules[j]; other.Name == r.Name {
			c.at(at("name"), "", "rule %q stands in line %d already", r.Name, other.Line)
			break
		}
	}
	if strings.TrimSpace(r.Why) == "" {
		c.at(at("why"), "one sentence that the person who is let in will read", "rule %q has no why", r.Name)
	} else if strings.ContainsFunc(r.Why, isControl) {
		c.at(at("why"), "", "a control character in the why")
	}
	needed := func(key string, list []string) {
		if len(list) == 0 {
			c.at(at(key), "", "rule %q has no %s", r.Name, key)
		}
	}
	needed("who", in.Who)
	needed("hosts", in.Hosts)
	needed("logins", in.Logins)
	r.Who, r.who = in.Who, c.persons(in.Who, at("who"))
	r.Hosts, r.hosts = in.Hosts, c.hostSet(in.Hosts, at("hosts"))
	for n, s := range in.Logins {
		login, err := name.ParseLogin(s)
		if err != nil {
			c.at(element(at("logins"), n), "", "%v", err)
		}
		r.Logins = append(r.Logins, login)
	}
	switch {
	case !c.ix.has(at("minutes")...):
		c.at(at("minutes"), "", "rule %q has no minutes", r.Name)
	case in.Minutes > c.p.Always.MaxMinutes && in.Minutes <= MaxGrantMinutes:
		c.at(at("minutes"), "", "minutes = %d is more than max_minutes in [always] allows (%d)", in.Minutes, c.p.Always.MaxMinutes)
	default:
		r.Minutes = c.number(in.Minutes, at("minutes"), 0, 1, MaxGrantMinutes)
	}
	r.Approvals = c.number(in.Approvals, at("approvals"), 0, 0, maxApprovals)
	r.Approvers, r.approvers = in.Approvers, c.persons(in.Approvers, at("approvers"))
	switch {
	case r.Approvals > 0 && len(in.Approvers) == 0:
		c.at(at("approvals"), `write approvers = ["@leads"]`, "rule %q asks for approvals of nobody", r.Name)
	case r.Approvals == 0 && len(in.Approvers) > 0:
		c.at(at("approvers"), "write approvals = 1, or leave the approvers out", "rule %q names approvers but asks for no approval", r.Name)
	case r.Approvals == 0 && c.ix.has(at("wait")...):
		c.at(at("wait"), "leave it out", "rule %q waits for no approval", r.Name)
	case r.Approvals == 0 && c.ix.has(at("override")...):
		c.at(at("override"), "leave it out", "rule %q asks for no approval that could be overridden", r.Name)
	case r.Approvals == 0 && in.Veto:
		c.at(at("veto"), "leave it out", "rule %q asks nobody who could say no", r.Name)
	}
	if r.Approvals == 0 { // what circumstances add is [always]'s approvers' to give
		c.expand(len(c.p.Always.Approvers), at("name"))
		for _, n := range c.p.Always.Approvers {
			r.approvers[n] = true
		}
	}
	c.circumstancesOf(&r, in, i)
	r.Override = c.override(in.Override, at("override"), 0)
	r.Wait = c.duration(in.Wait, at("wait"), DefaultWait)
	r.Idle = c.duration(in.Idle, at("idle"), c.p.Always.Idle)
	r.Budget = c.size(in.Budget, at("budget"), c.p.Always.Budget)
	c.watchedBy(&r, in, at("watched_by"))
	r.RetainDays = max(c.p.Always.RetainDays, c.number(in.RetainDays, at("retain_days"), 0, 1, maxRetainDays))
	r.LegalHold = in.LegalHold
	r.ReasonMin = max(c.p.Always.ReasonMin, c.number(in.ReasonMin, at("reason_min"), 0, 1, maxReasonMin))
	if c.ix.has(at("ticket")...) {
		r.Ticket = in.Ticket
		r.ticket, err = regexp.Compile("^(?:" + in.Ticket + ")$")
		if err != nil || in.Ticket == "" || len(in.Ticket) > maxTicketPattern {
			c.at(at("ticket"), `write it like "INC-[0-9]+"`, "ticket %q is no usable regular expression", in.Ticket)
		} else if r.ticket.MatchString("") {
			c.at(at("ticket"), "leave it out to demand none", "the pattern fits an empty ticket too")
		}
	}
	for n, s := range in.Forwards {
		fw, err := ParseForward(s)
		if err != nil {
			c.at(element(at("forwards"), n), "", "%v", err)
		}
		r.Forwards = append(r.Forwards, fw)
	}
	if len(in.Forwards) > maxForwards {
		c.at(at("forwards"), "", "more than %d forwards", maxForwards)
	}
	c.p.Rules = append(c.p.Rules, r)
}

// hostSet resolves a rule's hosts.
func (c *compiler) hostSet(list, path []string) hostSet {
	s := hostSet{names: map[name.Host]bool{}, groups: map[name.Group]bool{}}
	for i, text := range list {
		switch {
		case strings.HasPrefix(text, "@"):
			if !c.hostGroups[name.Group(text[1:])] {
				c.at(element(path, i), suggest(text, prefixed(sortedKeys(c.hostGroups))), "no host is in group %q", text)
			}
			s.groups[name.Group(text[1:])] = true
		case strings.Contains(text, "*"):
			pat, err := parsePattern(text)
			if err != nil {
				c.at(element(path, i), "", "%v", err)
				continue
			}
			c.rulePattern(element(path, i))
			if !c.fitsSomeHost(pat) {
				c.at(element(path, i), suggest(text, sortedKeys(c.p.hostLines)), "no host fits %q", text)
			}
			s.patterns = append(s.patterns, pat)
		default:
			if c.p.host(name.Host(text)) == nil {
				hint := suggest(text, append(sortedKeys(c.p.hostLines), prefixed(sortedKeys(c.hostGroups))...))
				if c.hostGroups[name.Group(text)] {
					hint = fmt.Sprintf("a group is written %q", "@"+text)
				}
				c.at(element(path, i), hint, "unknown host %q", text)
			}
			s.names[name.Host(text)] = true
		}
	}
	return s
}

func (c *compiler) fitsSomeHost(pat pattern) bool {
	for h := range c.p.hosts {
		if pat.match(h) {
			return true
		}
	}
	for _, e := range c.p.patterns {
		if pat.overlaps(e.pattern) {
			return true
		}
	}
	return false
}

func element(path []string, i int) []string {
	return append(slices.Clone(path), strconv.Itoa(i))
}

func prefixed(groups []string) []string {
	for i := range groups {
		groups[i] = "@" + groups[i]
	}
	return groups
}

// isControl finds what may not stand in a text that goes into a statement, a ledger line or a terminal: control
// characters, line separators, and the marks that turn the reading direction around.
func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
