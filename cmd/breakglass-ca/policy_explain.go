package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/ca"
	"breakglass/internal/name"
	"breakglass/policy"
	"breakglass/policy/geo"
)

// explainFlags are the facts that a person gives by hand.
type explainFlags struct {
	from, approved, refused, forwards, subdivisions, oncall, live, added []string
	country, anonymous, touch, uv, key, totp, kind                       string
	reason, ticket, failure, severity, at                                string
	asn                                                                  uint32
	minutes                                                              int
	waited                                                               time.Duration
	drill                                                                bool
	geo, geoASN, geoAnonymous                                            string
}

func newPolicyExplainCmd(a *app) *cobra.Command {
	var q explainFlags
	var db string
	c := a.withDir(&cobra.Command{
		Use: "explain [FILE|DIR] PERSON LOGIN@HOST", Short: "Show each check that a request would meet, and the decision", Args: cobra.RangeArgs(2, 3),
		Long: `Show each check that a request would meet, with the line of the policy that makes it, and the decision.

Without a file it is the policy in force of the CA in --dir. Where its service runs, the person's keys, on-call lists and live grants are those of now;
each flag that is given takes the place of what the CA knows. What nobody knows is unknown, which is the bad case.`,
		Example: `  breakglass-ca policy explain alice root@web01 --from 203.0.113.9
  breakglass-ca policy explain policy.toml alice root@web01 --from 203.0.113.9 --country DE --anonymous no --at 2026-12-24T22:00:00+01:00`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.policyOf(cmd, args[:len(args)-2], db)
			if err != nil {
				return err
			}
			inquiry, err := q.inquiry(p, args[len(args)-2], args[len(args)-1])
			if err != nil {
				return err
			}
			if len(args) == 2 && db == "" {
				if err := a.liveFacts(cmd, p, &inquiry.Facts, inquiry.Request.Person); err != nil {
					return err
				}
			}
			if a.json {
				return a.printJSON(policy.Decide(p, inquiry.Request, inquiry.Facts))
			}
			_, err = fmt.Fprint(a.stdout, folded(policy.Explain(p, inquiry.Request, inquiry.Facts)))
			return err
		},
	})
	f := c.Flags()
	f.StringArrayVar(&q.from, "from", nil, "an address that the request comes from (again for more)")
	f.StringVar(&q.country, "country", "", "its country, as in DE; left out: unknown")
	f.StringArrayVar(&q.subdivisions, "subdivision", nil, "its subdivision, as in DE-BE (again for more, widest first)")
	f.Uint32Var(&q.asn, "asn", 0, "the number of its autonomous system; 0: unknown")
	f.StringVar(&q.anonymous, "anonymous", "unknown", "whether it is an anonymous network: yes, no or unknown")
	f.StringVar(&q.geo, "geo", "", "take country and subdivision from this MaxMind database")
	f.StringVar(&q.geoASN, "geo-asn", "", "take the autonomous system from this MaxMind database")
	f.StringVar(&q.geoAnonymous, "geo-anonymous", "", "take the anonymity from this MaxMind database")
	f.StringVar(&q.touch, "touch", "yes", "whether the key was touched")
	f.StringVar(&q.uv, "uv", "yes", "whether PIN or biometric was given")
	f.StringVar(&q.totp, "totp", "unknown", "whether a right code of the other channel was given")
	f.StringVar(&q.key, "key", "live", "where the key's enrolment stands: live, in grace, pending, suspended, lapsed, revoked or unknown")
	f.StringArrayVar(&q.approved, "approved", nil, "who has approved (again for more)")
	f.StringArrayVar(&q.refused, "refused", nil, "who has said no (again for more)")
	f.StringVar(&q.reason, "reason", "a reason that is long enough for every rule of this file, to see the rest", "the reason")
	f.StringVar(&q.ticket, "ticket", "", "the ticket")
	f.StringVar(&q.failure, "failure", "", "what is declared to be down, of the policy's [failures]")
	f.StringVar(&q.severity, "severity", "", "the incident's severity")
	f.IntVar(&q.minutes, "minutes", 0, "for how long; 0 is what the rule gives")
	f.StringArrayVar(&q.forwards, "forward", nil, `a forward, as in "local localhost:5432" (again for more)`)
	f.BoolVar(&q.drill, "drill", false, "a rehearsal")
	f.StringVar(&q.at, "at", "", "the time, as in 2026-12-24T22:00:00+01:00; left out: now")
	f.StringArrayVar(&q.oncall, "oncall", nil, "a list in which the person is on call, of none of the others (again for more)")
	f.StringArrayVar(&q.live, "live", nil, "a live grant of theirs: RULE,ADDRESS[,COUNTRY] (again for more)")
	f.StringArrayVar(&q.added, "added", nil, "a circumstance that wants an approval more, as in review_overdue (again for more)")
	f.StringVar(&q.kind, "kind", "new", "what is asked: new, override or extend")
	f.DurationVar(&q.waited, "waited", 0, "how long the request has been open, as in 10m")
	f.StringVar(&db, "db", "", "the policy in force of a copy of ca.db")
	return c
}

// inquiry makes what the flags say.
func (q *explainFlags) inquiry(p *policy.Policy, person, target string) (*policy.Inquiry, error) {
	out := &policy.Inquiry{Request: policy.Request{Kind: policy.Kind(q.kind), Minutes: q.minutes, Reason: q.reason, Ticket: q.ticket, Failure: q.failure,
		Severity: q.severity, Drill: q.drill}}
	req, facts := &out.Request, &out.Facts
	var err error
	if req.Person, err = name.ParsePerson(person); err != nil {
		return nil, usage(err)
	}
	if req.Login, req.Host, err = name.SplitTarget(target); err != nil {
		return nil, usage(err)
	}
	if req.Login == "" {
		return nil, usagef("%q: say which login, as in root@%s", target, req.Host)
	}
	if !slices.Contains([]policy.Kind{policy.KindNew, policy.KindOverride, policy.KindExtend}, req.Kind) {
		return nil, usagef("--kind %q: want new, override or extend", q.kind)
	}
	for _, s := range q.forwards {
		f, err := policy.ParseForward(s)
		if err != nil {
			return nil, usage(err)
		}
		req.Forwards = append(req.Forwards, f)
	}
	facts.Now, facts.Waited = time.Now().UTC(), q.waited
	if q.at != "" {
		if facts.Now, err = time.Parse(time.RFC3339, q.at); err != nil {
			return nil, usagef("--at %q: write it like 2026-12-24T22:00:00+01:00", q.at)
		}
	}
	if facts.Approved, err = parsePeople(q.approved); err != nil {
		return nil, err
	}
	if facts.Refused, err = parsePeople(q.refused); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		flag, value string
		into        interface{ UnmarshalText([]byte) error }
	}{{"touch", q.touch, &facts.Touch}, {"uv", q.uv, &facts.UV}, {"key", q.key, &facts.Key}, {"totp", q.totp, &facts.TOTP}} {
		if err := f.into.UnmarshalText([]byte(f.value)); err != nil {
			return nil, usagef("--%s: %w", f.flag, err)
		}
	}
	for _, s := range q.added {
		if !slices.Contains(policy.AllAdded(), policy.Added(s)) {
			return nil, usagef("--added %q: want one of %v", s, policy.AllAdded())
		}
		facts.Added = append(facts.Added, policy.Added(s))
	}
	if err := q.onCall(p, facts); err != nil {
		return nil, err
	}
	if facts.Live, err = q.grants(p, facts.Now); err != nil {
		return nil, err
	}
	facts.Sources, err = q.sources(facts.Now)
	return out, err
}

func parsePeople(list []string) ([]name.Person, error) {
	var out []name.Person
	for _, s := range list {
		who, err := name.ParsePerson(s)
		if err != nil {
			return nil, usage(err)
		}
		out = append(out, who)
	}
	return out, nil
}

// onCall: in the lists that are named and in no other; where none is named, nobody knows.
func (q *explainFlags) onCall(p *policy.Policy, facts *policy.Facts) error {
	for _, s := range q.oncall {
		if p.Rosters[name.Roster(s)] == nil {
			return usagef("--oncall %q: the policy has no such list", s)
		}
	}
	if len(q.oncall) == 0 {
		return nil
	}
	for n := range p.Rosters {
		facts.OnCall = append(facts.OnCall, policy.OnCall{List: n, On: policy.TriOf(slices.Contains(q.oncall, string(n))), Written: facts.Now})
	}
	slices.SortFunc(facts.OnCall, func(a, b policy.OnCall) int { return strings.Compare(string(a.List), string(b.List)) })
	return nil
}

// grants are those of --live; without one there is none.
func (q *explainFlags) grants(p *policy.Policy, now time.Time) (policy.Live, error) {
	out := policy.Live{Known: true}
	for _, s := range q.live {
		part := strings.Split(s, ",")
		if len(part) < 2 || len(part) > 3 {
			return out, usagef("--live %q: write RULE,ADDRESS or RULE,ADDRESS,COUNTRY", s)
		}
		rule := name.Rule(part[0])
		if _, ok := p.Rule(rule); !ok {
			return out, usagef("--live %q: the policy has no rule %q", s, part[0])
		}
		addr, err := netip.ParseAddr(part[1])
		if err != nil {
			return out, usagef("--live %q: %q is no IP address", s, part[1])
		}
		src := policy.Source{Addr: addr, CountryBuilt: now}
		if len(part) == 3 {
			src.Country = part[2]
		}
		out.Person = append(out.Person, policy.LiveGrant{Rule: rule, Sources: []policy.Source{src}})
		if out.Rules == nil {
			out.Rules = map[name.Rule]int{}
		}
		out.Rules[rule]++
	}
	return out, nil
}

// sources says of each address what was given on the command line or, with a database, what that says.
func (q *explainFlags) sources(now time.Time) ([]policy.Source, error) {
	if len(q.from) == 0 {
		return nil, usagef("say --from ADDRESS: every decision depends on the place")
	}
	var anon policy.Tri
	if err := anon.UnmarshalText([]byte(q.anonymous)); err != nil {
		return nil, usagef("--anonymous: %w", err)
	}
	dbs := geo.Config{Country: q.geo, ASN: q.geoASN, Anonymous: q.geoAnonymous}
	if dbs.Country != "" && (q.country != "" || len(q.subdivisions) > 0) {
		return nil, usagef("--country and --subdivision, or --geo, not both")
	}
	if dbs.ASN != "" && q.asn != 0 {
		return nil, usagef("--asn or --geo-asn, not both")
	}
	db := geo.New(dbs)
	if dbs != (geo.Config{}) {
		if err := db.Reload(); err != nil {
			return nil, err
		}
	}
	var out []policy.Source
	for _, s := range q.from {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, usagef("--from %q is no IP address", s)
		}
		src := db.Lookup(addr)
		if dbs.Country == "" {
			src.Country, src.Subdivisions, src.CountryBuilt = q.country, q.subdivisions, now
		}
		if dbs.ASN == "" {
			src.ASN, src.ASNBuilt = q.asn, now
		}
		if dbs.Anonymous == "" {
			src.Anonymous, src.AnonymousBuilt = anon, now
		}
		out = append(out, src)
	}
	return out, nil
}

// liveFacts puts in what the running CA knows of the person, where no flag says otherwise, and says whose word the facts are.
func (a *app) liveFacts(cmd *cobra.Command, p *policy.Policy, f *policy.Facts, person name.Person) error {
	if _, ok := p.Person(person); !ok {
		return nil // the decision says so
	}
	var s ca.Standing
	err := a.withService(cmd.Context(), func(ad *admin) error {
		return ad.call(cmd.Context(), http.MethodGet, "/admin/standing?person="+url.QueryEscape(string(person)), nil, &s)
	})
	if errors.Is(err, errNotRunning) {
		a.say("the service doesn't run: keys, on-call lists and grants are as the flags say")
		return nil
	} else if err != nil {
		return err
	}
	given := cmd.Flags().Changed
	if !given("key") {
		f.Key = policy.KeyUnknown
		for _, k := range s.Keys { // the one that they would take
			if f.Key == policy.KeyUnknown || k.State == policy.KeyLive || k.State == policy.KeyInGrace && f.Key != policy.KeyLive {
				f.Key = k.State
			}
		}
	}
	if !given("added") {
		f.Added = s.Added
	}
	if !given("oncall") && !given("at") {
		f.OnCall = s.OnCall
	}
	if !given("live") && !given("at") {
		f.Live = s.Live
	}
	a.say("as the CA knows it now: %s, %s alive", count(len(s.Keys), "key"), count(len(s.Live.Person), "grant"))
	return nil
}

// screen is how wide a page may be: it is read in whatever terminal there is.
const screen = 80

// checkLine is the beginning of a line of policy.Explain that is one check.
var checkLine = regexp.MustCompile(`^  (line \d+ *|          )(yes|no ) `)

// folded breaks long lines at blanks, each under its text.
func folded(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		hang := len(line) - len(strings.TrimLeft(line, " ")) + 2
		if m := checkLine.FindString(line); m != "" {
			hang = len(m)
		}
		b.WriteString(fold(line, hang) + "\n")
	}
	return b.String()
}

// fold breaks one line; what can't be broken stays whole.
func fold(line string, hang int) string {
	var out []string
	for first := true; ; first = false {
		room := screen
		if !first {
			room -= hang
		}
		r := []rune(line)
		if len(r) <= room {
			out = append(out, line)
			break
		}
		at := -1
		for i := min(room, len(r)-1); i > 0; i-- {
			if r[i] == ' ' && strings.TrimSpace(string(r[:i])) != "" && (!first || i > hang) {
				at = i
				break
			}
		}
		if at < 0 {
			out = append(out, line)
			break
		}
		out = append(out, string(r[:at]))
		line = string(r[at+1:])
	}
	return strings.Join(out, "\n"+strings.Repeat(" ", hang))
}

// policyOf reads the policy that is named or, where none is, the one in force.
func (a *app) policyOf(cmd *cobra.Command, args []string, db string) (*policy.Policy, error) {
	if len(args) > 0 {
		return parsePolicy(cmd, args[0])
	}
	return a.policyInForce(cmd.Context(), db)
}

// policyInForce is the last one that the ledger adopted.
func (a *app) policyInForce(ctx context.Context, db string) (*policy.Policy, error) {
	var p *policy.Policy
	err := a.withLedger(ctx, db, func(l *ledgerCopy) (err error) {
		p, err = l.inForce()
		return err
	})
	return p, err
}
