package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"breakglass/internal/name"
)

// This file is about what a person declares with a request: how bad it is, and what is down. It is their word, signed; a rule
// that asks for it makes somebody answer for it, and no more.

const (
	maxSeverities = 20
	maxFailures   = 100
)

// Failure is an entry of [failures]: something that a request may declare to be down.
type Failure struct {
	Name name.Failure
	Why  string
	Line int
}

// severities reads a list of severities. known are those of [always]; nil compiles that list itself.
func (c *compiler) severities(list, path []string, known []string) []string {
	if c.ix.has(path...) && len(list) == 0 {
		c.at(path, "leave the key out for any", "an empty list of severities")
	}
	if len(list) > maxSeverities {
		c.at(path, "", "more than %d severities", maxSeverities)
	}
	for i, s := range list {
		_, err := name.ParseFailure(s) // a name like any other
		switch {
		case known != nil && !slices.Contains(known, s):
			hint := suggest(s, known)
			if len(known) == 0 {
				hint = `write severities = ["` + s + `"] in [always] first`
			}
			c.at(element(path, i), hint, "unknown severity %q", s)
		case known == nil && err != nil:
			c.at(element(path, i), `write it like "sev1"`, "severity %q: want %s", s, "lower-case letters, digits, '.', '_' or '-'")
		case slices.Contains(list[:i], s):
			c.at(element(path, i), "", "severity %q stands here twice", s)
		}
	}
	return slices.Clone(list)
}

func (c *compiler) failures(f *file) {
	c.p.Failures = map[name.Failure]*Failure{}
	if len(f.Failures) > maxFailures {
		c.key([]string{"failures"}, "", "more than %d failures", maxFailures)
	}
	for _, key := range sortedKeys(f.Failures) {
		path := []string{"failures", key}
		n, err := name.ParseFailure(key)
		if err != nil {
			c.key(path, "", "%v", err)
			continue
		}
		x := &Failure{Name: n, Why: f.Failures[key].Why, Line: c.line(path...)}
		why := append(slices.Clone(path), "why")
		if strings.TrimSpace(x.Why) == "" {
			c.at(why, "one sentence that says what is down", "failure %q has no why", n)
		} else if strings.ContainsFunc(x.Why, isControl) {
			c.at(why, "", "a control character in the why")
		}
		c.p.Failures[n] = x
	}
}

func (c *compiler) failureNames(list, path []string) []name.Failure {
	if c.ix.has(path...) && len(list) == 0 {
		c.at(path, "leave the key out for any", "an empty list of failures")
	}
	var out []name.Failure
	for i, s := range list {
		if c.p.Failures[name.Failure(s)] == nil {
			c.at(element(path, i), suggest(s, sortedKeys(c.p.Failures)), "unknown failure %q", s)
			continue
		}
		out = append(out, name.Failure(s))
	}
	return out
}

// measures compiles what [always] says of what is declared, and of how much.
func (c *compiler) measures(in *fileAlways, at func(string) []string) {
	a := &c.p.Always
	if a.Severities = c.severities(in.Severities, at("severities"), nil); len(a.Severities) == 0 {
		a.Severities = []string{}
	}
	if c.ix.has(at("failure")...) {
		if in.Failure != "required" && in.Failure != "optional" {
			c.at(at("failure"), `want "required" or "optional"`, "failure = %q", in.Failure)
		}
		if a.NeedFailure = in.Failure == "required"; a.NeedFailure && len(c.p.Failures) == 0 {
			c.at(at("failure"), `write [failures.sso-down] and its why`, "a failure is required, and there is none that could be declared")
		}
	}
	a.MaxGrants = c.number(in.MaxGrants, at("max_grants"), 0, 1, MaxGrants)
}

// circumstancesOf compiles what a rule says of time, of what is declared, and of how much.
func (c *compiler) circumstancesOf(r *Rule, in *fileRule, i int) {
	at := func(key string) []string { return []string{"rule", strconv.Itoa(i), key} }
	r.When, r.when = c.windowNames(in.When, at("when"))
	r.NotWhen, r.notWhen = c.windowNames(in.NotWhen, at("not_when"))
	r.OnCall, r.rosters = c.rosterNames(in.OnCall, at("oncall"))
	r.Severities = c.severities(in.Severities, at("severities"), c.p.Always.Severities)
	r.Failures = c.failureNames(in.Failures, at("failures"))
	r.MaxGrants = c.number(in.MaxGrants, at("max_grants"), 0, 1, MaxGrants)
}

// circumstances checks what a rule demands of time, of what is declared, and of how much.
func (e *evaluation) circumstances(r *Rule) {
	e.moment(r)
	e.onCall(r)
	e.declaredFor(r)
	e.grantsOf(r)
}

// declared checks severity and failure against what the site knows.
func (e *evaluation) declared(line int) {
	a, q := &e.p.Always, &e.req
	if q.Severity != "" && len(a.Severities) > 0 {
		if !slices.Contains(a.Severities, q.Severity) {
			e.fail(line, Reason{SeverityUnknown, fmt.Sprintf("this site knows no severity %q", q.Severity), "--severity takes " + words(a.Severities)})
		} else if e.trace != nil {
			e.pass(line, "severity %s is one of this site's", q.Severity)
		}
	}
	switch known := sortedKeys(e.p.Failures); {
	case q.Failure == "" && a.NeedFailure:
		e.fail(line, Reason{FailureMissing, "this site wants to know what is down", "declare it: --failure takes " + words(known)})
	case q.Failure == "":
	case e.p.Failures[name.Failure(q.Failure)] != nil:
		if e.trace != nil {
			e.pass(e.p.Failures[name.Failure(q.Failure)].Line, "%s is a failure that this site knows", q.Failure)
		}
	case len(known) == 0:
		e.fail(line, Reason{FailureUnknown, fmt.Sprintf("this site knows no failure %q, nor any other", q.Failure), "say in the reason what is down, and leave --failure out"})
	default:
		e.fail(line, Reason{FailureUnknown, fmt.Sprintf("this site knows no failure %q", q.Failure), "--failure takes " + words(known)})
	}
}

// declaredFor checks severity and failure against what a rule asks. What the site doesn't know was refused before any rule.
func (e *evaluation) declaredFor(r *Rule) {
	q := &e.req
	if len(r.Severities) > 0 && (q.Severity == "" || slices.Contains(e.p.Always.Severities, q.Severity)) {
		if !slices.Contains(r.Severities, q.Severity) {
			what := "no severity is declared"
			if q.Severity != "" {
				what = fmt.Sprintf("the severity is %s", q.Severity)
			}
			e.fail(r.Line, Reason{SeverityNotAllowed, fmt.Sprintf("%s, and rule %q is for %s", what, r.Name, words(r.Severities)), "if it is so bad, say so: --severity " + r.Severities[0]})
		} else if e.trace != nil {
			e.pass(r.Line, "severity %s is among %s", q.Severity, words(r.Severities))
		}
	}
	if len(r.Failures) == 0 {
		return
	}
	switch {
	case q.Failure == "" && e.p.Always.NeedFailure:
	case q.Failure == "":
		e.fail(r.Line, Reason{FailureMissing, fmt.Sprintf("rule %q is for when something is down, and none is declared", r.Name), "declare it: --failure takes " + words(r.Failures)})
	case e.p.Failures[name.Failure(q.Failure)] == nil:
	case !slices.Contains(r.Failures, name.Failure(q.Failure)):
		e.fail(r.Line, Reason{FailureNotAllowed, fmt.Sprintf("rule %q is not for %s", r.Name, q.Failure), "it is for --failure " + words(r.Failures)})
	case e.trace != nil:
		e.pass(r.Line, "failure %s is among %s", q.Failure, words(r.Failures))
	}
}
