package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"breakglass/internal/name"
	"breakglass/policy"
	"breakglass/policy/geo"
)

func newPolicyCmd(a *app) *cobra.Command {
	return group("policy", "Check, test and explain a policy file",
		newPolicyCheckCmd(a), newPolicyTestCmd(a), newPolicyExplainCmd(a), newPolicyStatusCmd(a))
}

// parsePolicy reads a policy without running its own tests.
func parsePolicy(cmd *cobra.Command, path string) (*policy.Policy, error) {
	src, err := readLimited(path, cmd.InOrStdin(), policy.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	return policy.Parse(path, src)
}

// finding is a policy.Finding as JSON.
type finding struct {
	Severity string `json:"severity"`
	Line     int    `json:"line,omitempty"`
	Message  string `json:"message"`
	Next     string `json:"next,omitempty"`
}

func newPolicyCheckCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Look for mistakes, dead ends and doors that stand open", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePolicy(cmd, args[0])
			if err != nil {
				return err
			}
			found := []finding{}
			faults := 0
			for _, r := range policy.Test(p) {
				if !r.OK() {
					faults++
					found = append(found, finding{policy.SeverityError.String(), r.Line, fmt.Sprintf("test %q fails: %s", r.Name, strings.Join(r.Faults, "; ")),
						"breakglass-ca policy test " + args[0]})
				}
			}
			for _, f := range policy.Check(p) {
				if f.Severity == policy.SeverityError {
					faults++
				}
				found = append(found, finding{f.Severity.String(), f.Line, f.Message, f.Next})
			}
			if a.json {
				if err := a.printJSON(map[string]any{"sha256": p.SHA256, "findings": found}); err != nil {
					return err
				}
			} else {
				for _, f := range found {
					place := args[0]
					if f.Line > 0 {
						place = fmt.Sprintf("%s:%d", place, f.Line)
					}
					fmt.Fprintf(a.stdout, "%s: %s: %s\n", place, f.Severity, clean(f.Message))
					if f.Next != "" {
						fmt.Fprintf(a.stdout, "    %s\n", clean(f.Next))
					}
				}
			}
			if faults > 0 {
				return fmt.Errorf("%s: %s", args[0], count(faults, "error"))
			}
			a.say("%s: %s, no error, %s", args[0], count(len(p.Rules), "rule"), count(len(found), "warning"))
			return nil
		},
	}
}

func newPolicyTestCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "test FILE", Short: "Run the file's own [[test]] blocks", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePolicy(cmd, args[0])
			if err != nil {
				return err
			}
			type result struct {
				Name     string          `json:"name"`
				Line     int             `json:"line"`
				OK       bool            `json:"ok"`
				Faults   []string        `json:"faults,omitempty"`
				Decision policy.Decision `json:"decision"`
			}
			results := []result{}
			failed := 0
			for _, r := range policy.Test(p) {
				results = append(results, result{r.Name, r.Line, r.OK(), r.Faults, r.Decision})
				if !r.OK() {
					failed++
				}
				if a.json {
					continue
				}
				if r.OK() {
					fmt.Fprintf(a.stdout, "ok    %s\n", clean(r.Name))
					continue
				}
				fmt.Fprintf(a.stdout, "FAIL  %s (line %d)\n", clean(r.Name), r.Line)
				for _, f := range r.Faults {
					fmt.Fprintf(a.stdout, "      %s\n", clean(f))
				}
			}
			if a.json {
				if err := a.printJSON(map[string]any{"sha256": p.SHA256, "tests": results}); err != nil {
					return err
				}
			}
			if failed > 0 {
				return withHint(fmt.Errorf("%s: %d of %s failed; the CA would refuse this file", args[0], failed, count(len(results), "test")),
					"breakglass-ca policy explain "+args[0]+" PERSON LOGIN@HOST --from ADDRESS shows each check")
			}
			a.say("%s: %s passed", args[0], count(len(results), "test"))
			return nil
		},
	}
}

func newPolicyExplainCmd(a *app) *cobra.Command {
	var q struct {
		from, approved, forwards           []string
		country, anonymous, touch, uv, key string
		reason, ticket                     string
		minutes                            int
		drill                              bool
		geo, geoAnonymous                  string
	}
	c := &cobra.Command{
		Use: "explain FILE PERSON LOGIN@HOST", Short: "Show each check that a request would meet, and the decision", Args: cobra.ExactArgs(3),
		Example: `  breakglass-ca policy explain policy.toml alice root@web01 --from 203.0.113.9 --country DE --anonymous no`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePolicy(cmd, args[0])
			if err != nil {
				return err
			}
			req := policy.Request{Kind: policy.KindNew, Minutes: q.minutes, Reason: q.reason, Ticket: q.ticket, Drill: q.drill}
			facts := policy.Facts{Now: time.Now()}
			if req.Person, err = name.ParsePerson(args[1]); err != nil {
				return usage(err)
			}
			if req.Login, req.Host, err = name.SplitTarget(args[2]); err != nil {
				return usage(err)
			}
			if req.Login == "" {
				return usagef("%q: say which login, as in root@%s", args[2], req.Host)
			}
			for _, s := range q.forwards {
				f, err := policy.ParseForward(s)
				if err != nil {
					return usage(err)
				}
				req.Forwards = append(req.Forwards, f)
			}
			for _, s := range q.approved {
				who, err := name.ParsePerson(s)
				if err != nil {
					return usage(err)
				}
				facts.Approved = append(facts.Approved, who)
			}
			for _, f := range []struct {
				flag, value string
				into        interface{ UnmarshalText([]byte) error }
			}{{"touch", q.touch, &facts.Touch}, {"uv", q.uv, &facts.UV}, {"key", q.key, &facts.Key}} {
				if err := f.into.UnmarshalText([]byte(f.value)); err != nil {
					return usagef("--%s: %w", f.flag, err)
				}
			}
			if facts.Sources, err = explainSources(q.from, q.country, q.anonymous, geo.Config{Country: q.geo, Anonymous: q.geoAnonymous}, facts.Now); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(policy.Decide(p, req, facts))
			}
			_, err = fmt.Fprint(a.stdout, policy.Explain(p, req, facts))
			return err
		},
	}
	f := c.Flags()
	f.StringArrayVar(&q.from, "from", nil, "an address that the request comes from (again for more)")
	f.StringVar(&q.country, "country", "", "its country, as in DE; left out: unknown")
	f.StringVar(&q.anonymous, "anonymous", "unknown", "whether it is an anonymous network: yes, no or unknown")
	f.StringVar(&q.geo, "geo", "", "take the country from this MaxMind database")
	f.StringVar(&q.geoAnonymous, "geo-anonymous", "", "take the anonymity from this MaxMind database")
	f.StringVar(&q.touch, "touch", "yes", "whether the key was touched")
	f.StringVar(&q.uv, "uv", "yes", "whether PIN or biometric was given")
	f.StringVar(&q.key, "key", "live", "where the key's enrolment stands: live, pending, suspended, lapsed, revoked or unknown")
	f.StringArrayVar(&q.approved, "approved", nil, "who has approved (again for more)")
	f.StringVar(&q.reason, "reason", "a reason that is long enough for every rule of this file, to see the rest", "the reason")
	f.StringVar(&q.ticket, "ticket", "", "the ticket")
	f.IntVar(&q.minutes, "minutes", 0, "for how long; 0 is what the rule gives")
	f.StringArrayVar(&q.forwards, "forward", nil, `a forward, as in "local localhost:5432" (again for more)`)
	f.BoolVar(&q.drill, "drill", false, "a rehearsal")
	return c
}

// explainSources says of each address what was given on the command line or, with a database, what that says.
func explainSources(from []string, country, anonymous string, dbs geo.Config, now time.Time) ([]policy.Source, error) {
	if len(from) == 0 {
		return nil, usagef("say --from ADDRESS: every decision depends on the place")
	}
	var anon policy.Tri
	if err := anon.UnmarshalText([]byte(anonymous)); err != nil {
		return nil, usagef("--anonymous: %w", err)
	}
	if dbs.Country != "" && country != "" {
		return nil, usagef("--country or --geo, not both")
	}
	db := geo.New(dbs)
	if dbs != (geo.Config{}) {
		if err := db.Reload(); err != nil {
			return nil, err
		}
	}
	var out []policy.Source
	for _, s := range from {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, usagef("--from %q is no IP address", s)
		}
		src := db.Lookup(addr)
		if dbs.Country == "" {
			src.Country, src.CountryBuilt = country, now
		}
		if dbs.Anonymous == "" {
			src.Anonymous, src.AnonymousBuilt = anon, now
		}
		out = append(out, src)
	}
	return out, nil
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
