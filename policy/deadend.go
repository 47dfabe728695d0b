package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"breakglass/internal/name"
)

// This file plays a policy through the nights that it is made for: somebody is away, nobody wakes up, every enrolment has lapsed, the geo
// databases are gone, nobody knows who is on call, it is outside every window. In each of them every host that a rule reaches for real must still be
// entered by somebody, later and louder if need be. The answer is Decide's own, over the best request and the worst facts that the night allows:
// a second evaluator would find the doors of another house.
//
// Hosts that the same rules reach are one host to it, and people whom the same rules name are three: what one of them may, the others may, and
// three is enough for one to be away and one to say yes to the other.

// Bounds of the play-through. Beyond them it says so, rather than keep the person who waits for it.
const (
	maxScenes   = 48      // ways to ask that are tried of one rule
	maxTries    = 4096    // that are thrown away while looking for those
	maxDecides  = 200_000 // decisions in one night
	maxInAll    = 800_000 // in all nights, with the ways to ask that were thrown away; a checker may say less
	maxReported = 20      // findings of one night
	maxMeetings = 1 << 20 // pairs of a pattern of [hosts] and one of a rule
	playedAlike = 3       // people of a class that are tried
)

// night is what is different from an ordinary one.
type night struct {
	geo    bool // the geo databases answer
	oncall bool // on-call lists can be read
	key    KeyState
	asleep bool                   // nobody approves, or watches
	absent func(name.Person) bool // nil: everybody is there
	at     []time.Time            // any of these
}

func (n *night) without(p name.Person) bool { return n.absent != nil && n.absent(p) }

type play struct {
	p       *Policy
	found   func(s Severity, line int, next, format string, args ...any)
	hosts   []*hostClass
	people  []*personClass
	moments []time.Time       // one of each kind of time that the policy tells apart
	reached map[int]name.Host // a host of each rule
	who     map[int][]name.Person
	cache   map[int][]scene // of the night that is played
	decides int             // in this night
	inAll   int
	most    int // of inAll
	wasCut  bool

	namedHosts map[name.Host]bool // in rules
	patterns   []pattern          // of rules

	spots    map[spot][]Source // without their databases' times
	kinds    map[string]string
	listed   []string // every subdivision that the policy names
	otherASN uint32
}

// hostClass are hosts that the same rules reach.
type hostClass struct {
	names []name.Host
	rules []int // that answer real requests, in the file's order
}

type personClass struct {
	people []name.Person
}

// scene is one way to ask.
type scene struct {
	req   Request
	facts Facts
}

// way is how somebody got in.
type way struct {
	rule      *Rule
	person    name.Person
	approvers []name.Person
	override  bool
}

// playThrough adds to the findings every night in which a host could not be entered.
func (k *checker) playThrough() {
	warn := func(_ Severity, line int, next, format string, args ...any) {
		k.add(SeverityWarning, line, next, format, args...)
	}
	y := newPlay(k.p, k.add)
	y.most = k.most
	dead := y.deadRules()
	y.laxer()
	if k.p.Profile == Demo { // a demo may be one person's; what it lacks is shown all the same
		y.found = warn
	}
	ways := y.ordinary(dead)
	y.aways(ways)
	y.lacking(ways)
	for _, t := range y.moments {
		if len(y.moments) == 1 {
			break // no rule looks at the clock
		}
		y.stuck(ways, night{geo: true, oncall: true, key: KeyLive, at: []time.Time{t}}, alwaysOpen, "at times like "+t.UTC().Format("Mon 2006-01-02 15:04")+" UTC nobody could enter %s")
	}
	y.reviewers()
	if keys := k.known.Keys; keys != nil {
		y.found = warn // people can enrol without a change of the policy
		y.stuck(ways, night{geo: true, oncall: true, key: KeyLive, absent: func(q name.Person) bool { return keys[q] == 0 }, at: y.moments},
			func(r *Rule) string { return fmt.Sprintf("have the people of rule %q enrol their keys", r.Name) }, "with the keys that count today nobody could enter %s")
	}
}

// ordinary finds the way into each host in a night in which nothing is lacking.
func (y *play) ordinary(dead map[int]bool) map[*hostClass]way {
	in := y.night(night{geo: true, oncall: true, key: KeyLive, at: y.moments})
	ways := map[*hostClass]way{}
	var stuck []*hostClass
	for _, h := range y.hosts {
		if w, ok := y.enter(h, in); ok {
			ways[h] = w
		} else if slices.ContainsFunc(h.rules, func(i int) bool { return !dead[i] }) && !y.spent() { // else it was said of the rule
			stuck = append(stuck, h)
		}
	}
	y.report(stuck, ways, func(*Rule) string { return "name people, places and approvals that go together" }, "nobody could ever enter %s")
	return ways
}

// lacking plays the nights in which something that may be down is down.
func (y *play) lacking(ways map[*hostClass]way) {
	for _, n := range []struct {
		night night
		what  string // %s: the hosts
		next  func(*Rule) string
	}{
		{night{geo: true, oncall: true, key: KeyInGrace}, "with every enrolment lapsed, in its grace, nobody could enter %s", func(*Rule) string {
			return "shorten [always] override to less than the rule's wait, or name approvers"
		}},
		{night{geo: true, oncall: true, key: KeyLive, asleep: true}, "with every approver asleep nobody could enter %s", overrideHint},
		{night{oncall: true, key: KeyLive}, "with the geo databases missing or too old nobody could enter %s", func(*Rule) string {
			return `write trusted = [...] with networks of yours, or geo_unknown = "ask", in [always]`
		}},
		{night{geo: true, key: KeyLive}, "with the on-call lists missing or too old nobody could enter %s", func(r *Rule) string {
			return fmt.Sprintf("add a rule behind %q without oncall that asks for an approval", r.Name)
		}},
	} {
		n.night.at = y.moments
		y.stuck(ways, n.night, n.next, n.what)
	}
}

func alwaysOpen(r *Rule) string {
	return fmt.Sprintf("add a rule behind %q without when and not_when that asks for an approval", r.Name)
}

func overrideHint(r *Rule) string {
	switch {
	case len(r.WatchedBy) > 0 && r.Approvals == 0:
		return fmt.Sprintf(`write approvals, approvers and override = "after 10m" in rule %q: an override goes ahead without anybody who watches, too`, r.Name)
	case r.Approvals > 0 && r.Override == 0:
		return fmt.Sprintf(`write override = "after 10m" in rule %q, or a rule behind it that asks others`, r.Name)
	case r.Override > r.Wait:
		return fmt.Sprintf("write a wait that is longer than the override of rule %q", r.Name)
	}
	return `write override = "after 10m" in a rule that reaches it`
}

func newPlay(p *Policy, found func(Severity, int, string, string, ...any)) *play {
	y := &play{p: p, found: found, reached: map[int]name.Host{}, who: map[int][]name.Person{}, namedHosts: map[name.Host]bool{}, most: maxInAll, spots: map[spot][]Source{}, kinds: kindsOfCountries(p), otherASN: unlistedASN(p)}
	var whole bool
	if y.moments, whole = moments(p); !whole {
		y.cut()
	}
	y.listed = slices.Clone(p.Always.Subdivisions)
	for i := range p.Rules {
		r := &p.Rules[i]
		y.listed = append(y.listed, r.Subdivisions...)
		maps.Copy(y.namedHosts, r.hosts.names)
		for _, q := range r.hosts.patterns {
			if !slices.Contains(y.patterns, q) {
				y.patterns = append(y.patterns, q)
			}
		}
	}
	y.classes()
	return y
}

// classes sorts hosts by the rules that reach them, and people by how the file speaks of them.
func (y *play) classes() {
	byRules := map[string]*hostClass{}
	alike := map[string]*hostClass{} // hosts that no rule can tell apart, so that each kind is held against the rules once
	for _, h := range y.hostNames() {
		info := y.p.host(h)
		if info == nil {
			continue
		}
		kind := y.kindOf(info)
		c, known := alike[kind]
		if !known {
			c = y.reachedBy(info, byRules)
			alike[kind] = c
		}
		if c != nil {
			c.names = append(c.names, h)
		}
	}

	named := map[name.Person]bool{}
	for i := range y.p.Rules {
		for _, s := range slices.Concat(y.p.Rules[i].Who, y.p.Rules[i].Approvers) {
			named[name.Person(s)] = true
		}
	}
	byKey := map[string]*personClass{}
	for _, n := range y.p.People() {
		key := words(y.p.people[n].Groups)
		if named[n] {
			key += " " + string(n)
		}
		key += fmt.Sprint(y.p.IsReader(n), contains(y.p.Always.Approvers, n))
		c := byKey[key]
		if c == nil {
			c = &personClass{}
			byKey[key] = c
			y.people = append(y.people, c)
		}
		c.people = append(c.people, n)
	}
}

// reachedBy finds or makes the class of a host; nil if no rule for real reaches it.
func (y *play) reachedBy(info *HostInfo, byRules map[string]*hostClass) *hostClass {
	var rules []int
	var key strings.Builder
	for i := range y.p.Rules {
		r := &y.p.Rules[i]
		if !r.hosts.has(info) {
			continue
		}
		if _, ok := y.reached[i]; !ok {
			y.reached[i] = info.Name
		}
		if !r.Drill {
			rules = append(rules, i)
			fmt.Fprintf(&key, "%d ", i)
		}
	}
	if len(rules) == 0 {
		return nil
	}
	c := byRules[key.String()]
	if c == nil {
		c = &hostClass{rules: rules}
		byRules[key.String()] = c
		y.hosts = append(y.hosts, c)
	}
	return c
}

// kindOf is all by which a rule can tell a host from another: its groups, the patterns that its name fits, and the name, if a rule has it.
func (y *play) kindOf(info *HostInfo) string {
	var b strings.Builder
	b.WriteString(words(info.Groups))
	for i, q := range y.patterns {
		if q.match(info.Name) {
			fmt.Fprintf(&b, " %d", i)
		}
	}
	if y.namedHosts[info.Name] {
		b.WriteString(" " + string(info.Name))
	}
	return b.String()
}

// hostNames are the names written out, and one for each way in which the patterns of rules and hosts meet.
func (y *play) hostNames() []name.Host {
	names := map[name.Host]bool{}
	for n := range y.p.hosts {
		names[n] = true
	}
	maps.Copy(names, y.namedHosts)
	pairs := 0
	for _, e := range y.p.patterns {
		names[meeting(e.pattern, e.pattern)] = true
		for _, q := range y.patterns {
			if pairs++; pairs > maxMeetings {
				y.cut()
				break
			}
			if q.overlaps(e.pattern) {
				names[meeting(e.pattern, q)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// meeting is a name that fits both of two patterns that overlap.
func meeting(p, q pattern) name.Host {
	prefix, suffix := p.prefix, p.suffix
	if len(q.prefix) > len(prefix) {
		prefix = q.prefix
	}
	if len(q.suffix) > len(suffix) {
		suffix = q.suffix
	}
	return name.Host(prefix + "x" + suffix)
}

// peopleOf are people whom a rule names: a few of each class.
func (y *play) peopleOf(i int) []name.Person {
	if list, ok := y.who[i]; ok {
		return list
	}
	var out []name.Person
	for _, c := range y.people {
		if y.p.Rules[i].who[c.people[0]] {
			out = append(out, c.people[:min(len(c.people), playedAlike)]...)
		}
	}
	y.who[i] = out
	return out
}

// night begins one: what was tried in another does not hold.
func (y *play) night(n night) *night {
	y.cache, y.decides = map[int][]scene{}, 0
	return &n
}

// spent says that the night took too many decisions, so that what was not found proves nothing.
func (y *play) spent() bool { return y.decides >= maxDecides || y.inAll >= y.most }

// scenes are the ways to ask a rule that its conditions let pass.
func (y *play) scenes(i int, n *night) []scene {
	if list, ok := y.cache[i]; ok {
		return list
	}
	out, _ := y.try(i, n)
	y.cache[i] = out
	return out
}

// try makes up ways to ask a rule; where none passes, against is what the one that came closest failed by.
func (y *play) try(i int, n *night) (passed []scene, against []Reason) {
	r := &y.p.Rules[i]
	people := y.peopleOf(i)
	if len(people) == 0 {
		return nil, nil
	}
	host, ok := y.reached[i]
	if !ok {
		return nil, nil
	}
	reason := strings.Repeat("played through ", max(r.ReasonMin, y.p.Always.ReasonMin)/len("played through")+1)
	var tries int
	for _, t := range n.at {
		for _, src := range y.sources(i, n.geo, t.Add(-time.Hour)) {
			for _, severity := range y.severities(r) {
				for _, failure := range y.failures(r) {
					y.inAll++
					if tries++; tries > maxTries || len(passed) >= maxScenes || y.spent() {
						return passed, against
					}
					s := scene{Request{Kind: KindNew, Person: people[0], Host: host, Login: r.Logins[0], Reason: reason, Ticket: sampleTicket(r.Ticket),
						Severity: severity, Failure: string(failure), Drill: r.Drill},
						Facts{Now: t, Sources: []Source{src}, Touch: Yes, UV: Yes, TOTP: Yes, Key: n.key, Live: Live{Known: true}}}
					if n.oncall {
						for _, list := range sortedKeys(y.p.Rosters) {
							s.facts.OnCall = append(s.facts.OnCall, OnCall{List: name.Roster(list), On: Yes, Written: t.Add(-time.Minute)})
						}
					}
					e := &evaluation{p: y.p, req: s.req, facts: s.facts}
					e.always()
					e.conditions(r)
					switch {
					case len(e.reasons) == 0:
						passed = append(passed, s)
					case against == nil || len(e.reasons) < len(against):
						against = e.reasons
					}
				}
			}
		}
	}
	return passed, against
}

func (y *play) severities(r *Rule) []string {
	if len(r.Severities) > 0 {
		return r.Severities
	}
	return append([]string{""}, y.p.Always.Severities...)
}

func (y *play) failures(r *Rule) []name.Failure {
	if len(r.Failures) > 0 {
		return r.Failures
	}
	out := []name.Failure{""}
	for _, f := range sortedKeys(y.p.Failures) {
		out = append(out, name.Failure(f))
	}
	return out
}

// enter looks for anybody who gets into a host in a night.
func (y *play) enter(h *hostClass, n *night) (way, bool) {
	for _, i := range h.rules {
		r := &y.p.Rules[i]
		scenes := y.scenes(i, n)
		if len(scenes) == 0 {
			continue
		}
		for _, person := range y.peopleOf(i) {
			if n.without(person) {
				continue
			}
			for _, login := range r.Logins {
				for k := range scenes {
					if y.spent() {
						return way{}, false
					}
					s := scenes[k]
					s.req.Person, s.req.Host, s.req.Login = person, h.names[0], login
					if w, ok := y.through(s, n); ok {
						return w, true
					}
				}
			}
		}
	}
	return way{}, false
}

// through asks, gets the approvals that can be had, and in the end overrides.
func (y *play) through(s scene, n *night) (way, bool) {
	decide := func() Decision {
		y.decides++
		y.inAll++
		return Decide(y.p, s.req, s.facts)
	}
	d := decide()
	w := way{person: s.req.Person}
	if d.Outcome == Ask && !n.asleep {
		given := slices.DeleteFunc(slices.Clone(d.Approvers), n.without)
		s.facts.Approved = given[:min(len(given), d.Missing)]
		w.approvers = s.facts.Approved
		d = decide()
	}
	if d.Outcome == Ask && d.Override > 0 {
		s.req.Kind, s.facts.Waited, w.override = KindOverride, d.Wait, true // a request waits no longer
		d = decide()
	}
	w.rule = y.rule(d.Rule)
	if d.Outcome == Allow && len(d.WatchedBy) > 0 { // in, and nothing can be typed
		there := slices.DeleteFunc(slices.Clone(d.Observers), n.without)
		if n.asleep || len(there) == 0 {
			return w, false
		}
		w.approvers = append(slices.Clone(w.approvers), there[0])
	}
	return w, d.Outcome == Allow
}

func (y *play) rule(n name.Rule) *Rule {
	for i := range y.p.Rules {
		if y.p.Rules[i].Name == n {
			return &y.p.Rules[i]
		}
	}
	return nil
}

// stuck reports the hosts that had a way in on an ordinary night, and have none in this one.
func (y *play) stuck(ways map[*hostClass]way, n night, next func(*Rule) string, format string) {
	in := y.night(n)
	var stuck []*hostClass
	for _, h := range y.hosts {
		if _, ok := ways[h]; !ok || y.spent() {
			continue
		}
		if _, ok := y.enter(h, in); !ok && !y.spent() {
			stuck = append(stuck, h)
		}
	}
	if y.spent() {
		y.cut()
	}
	y.report(stuck, ways, next, format)
}

// cut says, once, that the play-through is not whole.
func (y *play) cut() {
	if !y.wasCut {
		y.wasCut = true
		y.found(SeverityWarning, 0, "ask breakglass-ca policy explain about the hosts that matter most", "this policy is too intricate to play all of it through: dead ends may be missing here")
	}
}

// report says of each rule which hosts it reaches in vain. What holds for every host is said once.
func (y *play) report(stuck []*hostClass, ways map[*hostClass]way, next func(*Rule) string, format string) {
	if len(stuck) == len(y.hosts) && len(stuck) > 1 {
		y.found(SeverityError, y.p.Always.Line, next(&y.p.Rules[stuck[0].rules[len(stuck[0].rules)-1]]), format, "any host")
		return
	}
	byRule := map[int][]name.Host{}
	for _, h := range stuck {
		i := h.rules[len(h.rules)-1] // the way in when all others fail
		if w, ok := ways[h]; ok {
			i = slices.IndexFunc(y.p.Rules, func(r Rule) bool { return r.Name == w.rule.Name })
		}
		byRule[i] = append(byRule[i], h.names...)
	}
	for n, i := range slices.Sorted(maps.Keys(byRule)) {
		if n == maxReported {
			y.found(SeverityError, 0, "mend those first", format, fmt.Sprintf("the hosts of %d more rules", len(byRule)-n))
			return
		}
		r := &y.p.Rules[i]
		y.found(SeverityError, r.Line, next(r), format, fmt.Sprintf("%s, which rule %q reaches", fewOf(byRule[i]), r.Name))
	}
}

// fewOf writes a few names of many.
func fewOf(hosts []name.Host) string {
	const shown = 3
	if len(hosts) <= shown {
		return words(hosts)
	}
	return fmt.Sprintf("%s and %d more hosts", words(hosts[:shown]), len(hosts)-shown)
}

// aways plays the nights in which one person is away. Only who took part in a host's ordinary way in can be missed there.
func (y *play) aways(ways map[*hostClass]way) {
	missed := map[name.Person][]*hostClass{}
	for _, h := range y.hosts {
		w, ok := ways[h]
		if !ok {
			continue
		}
		for _, who := range append([]name.Person{w.person}, w.approvers...) {
			missed[who] = append(missed[who], h)
		}
	}
	for _, who := range slices.Sorted(maps.Keys(missed)) {
		if y.spent() {
			y.cut()
			break
		}
		in := y.night(night{geo: true, oncall: true, key: KeyLive, absent: func(q name.Person) bool { return q == who }, at: y.moments})
		var stuck []*hostClass
		for _, h := range missed[who] {
			if _, ok := y.enter(h, in); !ok && !y.spent() {
				stuck = append(stuck, h)
			}
		}
		y.report(stuck, ways, func(r *Rule) string {
			if r.who[who] {
				return fmt.Sprintf("name somebody else in the who of rule %q", r.Name)
			}
			if len(r.WatchedBy) > 0 && r.observers[who] {
				return fmt.Sprintf(`name one more in the watched_by of rule %q who is a reader, or write approvals and override = "after 10m"`, r.Name)
			}
			return fmt.Sprintf(`name one approver more in rule %q, or write override = "after 10m"`, r.Name)
		}, "with "+string(who)+" away nobody could enter %s")
	}
}

// reviewers looks for people whose grants nobody could close: a review is another reader's than the requester and the approvers.
func (y *play) reviewers() {
	readers := y.p.Site.Readers
	for i := range y.p.Rules {
		r := &y.p.Rules[i]
		var never, may []name.Person
		for _, person := range y.peopleOf(i) {
			left, others := 0, 0 // readers beside the requester; approvers who are none
			for _, q := range readers {
				if q != person {
					left++
				}
			}
			reading := 0
			if r.Approvals > 0 {
				for _, q := range r.approversFor(person) {
					if contains(readers, q) {
						reading++
					} else {
						others++
					}
				}
			}
			switch {
			case r.Approvals > others+reading: // said elsewhere: they don't get in
			case left-max(0, r.Approvals-others) < 1:
				never = append(never, person)
			case left-min(r.Approvals, reading) < 1:
				may = append(may, person)
			}
		}
		const next = "name one reader more in [site] readers"
		if len(never) > 0 {
			y.found(SeverityError, r.Line, next, "what %s does under rule %q nobody could review: the readers are %s, and neither who asked nor who approved reviews", words(never), r.Name, words(readers))
		} else if len(may) > 0 {
			y.found(SeverityWarning, r.Line, next, "what %s does under rule %q nobody could review, if the wrong people approve it", words(may), r.Name)
		}
	}
}
