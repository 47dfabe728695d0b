package policy

// This file keeps a text that is no policy, or a monstrous one, from taking the memory and the minutes of whoever reads it. Who may propose a policy
// is not who may put it in force: an owner's stolen pass, or the right to write the file beside the service, must not be enough to end the service.

const (
	// maxNoted is how many keys, tables and list elements a text may have: 8 MiB of the leanest hosts that mean anything have less.
	maxNoted = 1_000_000
	// maxTables bounds the tables of one [[NAME]]: tests are run at each load. Of rules there may be fewer.
	maxTables = 20_000
	// maxPatterns bounds the patterns of [hosts]: each is held against every other, and every host against each.
	maxPatterns = 2000
	// maxRulePatterns bounds the patterns of all rules' hosts: each may be held against every host.
	maxRulePatterns = 5000
	// maxExpanded bounds what the groups and networks that lists name stand for, all lists together: 500 rules for 5,000 people each are half of it.
	// A group of 100,000 people in each of 2,000 rules would take gigabytes.
	maxExpanded = 5_000_000
)

// enough is what span panics with once there are as many faults as are shown: each of the next million would look for the word that was meant.
type enough struct{}

// until runs read, which finds faults, to its end or until there are enough.
func (c *faults) until(read func()) {
	defer func() {
		switch r := recover().(type) {
		case nil, enough:
		default:
			panic(r)
		}
	}()
	read()
}

// stop reports the fault that is the last: there is no sense, or no room, in reading on.
func (c *faults) stop(at span, hint, format string, args ...any) {
	c.span(at, hint, format, args...)
	panic(enough{})
}

// roomFor ends the reading of a text that says more than any policy does.
func (c *faults) roomFor(at span) {
	if len(c.ix.keys) > maxNoted {
		c.stop(at, "", "the policy has more than %d keys and list elements", maxNoted)
	}
}

// expand counts what a name in a list stands for.
func (c *compiler) expand(n int, path []string) {
	if c.expanded += n; c.expanded > maxExpanded {
		c.stop(c.ix.value(path), "name fewer in fewer lists", "the policy's lists stand for more than %d people and networks, all together", maxExpanded)
	}
}

// addPattern keeps a pattern of [hosts], unless another is as close to the same names.
func (c *compiler) addPattern(e hostEntry, path []string) {
	if len(c.p.patterns) == maxPatterns {
		c.stop(c.ix.key(path), "write groups for what the patterns have in common", "more than %d patterns", maxPatterns)
	}
	for _, other := range c.p.patterns {
		if other.pattern.fixed() == e.pattern.fixed() && other.pattern.overlaps(e.pattern) {
			c.key(path, "give one of them more text, or write the names out", "%q and %q (%s) fit the same names, neither more closely", e.text, other.text, standsIn(other.file, other.line))
		}
	}
	c.p.patterns = append(c.p.patterns, e)
}

// rulePattern counts the patterns of rules.
func (c *compiler) rulePattern(path []string) {
	if c.rulePatterns++; c.rulePatterns > maxRulePatterns {
		c.stop(c.ix.value(path), "name groups of hosts", "the rules have more than %d patterns of hosts", maxRulePatterns)
	}
}

// tooDeep ends the reading at a key of more parts than the format has: of a million parts, go-toml takes a gigabyte.
func (c *faults) tooDeep(at span, path []string) {
	c.stop(at, "", "a key of more than %d parts, that begins with %q", maxDepth, path[0])
}
