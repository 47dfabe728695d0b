package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"breakglass/internal/name"
	"breakglass/policy"
)

const whoLong = `The rules are read, no decision is made: what [always] asks of everybody is not repeated. Groups and patterns are resolved.

It is the policy in force of the CA in --dir, or the one that --policy names. Where the CA's service runs, it says how many keys of each person count now.
For the yearly re-confirmation: --all --csv.`

// accessFlags are who's and what's.
type accessFlags struct {
	policy, db string
	csv, all   bool
}

func (q *accessFlags) add(a *app, c *cobra.Command) *cobra.Command {
	a.withDir(c)
	c.Flags().StringVar(&q.policy, "policy", "", "a policy, file or directory, in place of the one in force")
	c.Flags().StringVar(&q.db, "db", "", "the policy in force of a copy of ca.db")
	c.Flags().BoolVar(&q.csv, "csv", false, "print a table for a spreadsheet")
	c.Flags().BoolVar(&q.all, "all", false, "everybody, everywhere")
	return c
}

func newPolicyWhoCmd(a *app) *cobra.Command {
	var q accessFlags
	return q.add(a, &cobra.Command{
		Use: "who HOST | who --all", Short: "List who can break glass on a host", Args: cobra.MaximumNArgs(1), Long: "List who can break glass on a host, by which rule and for how long.\n\n" + whoLong,
		Example: "  breakglass-ca policy who db01\n  breakglass-ca policy who --all --csv >access.csv",
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.all == (len(args) == 1) {
				return usagef("say which host, or --all")
			}
			p, err := a.accessPolicy(cmd, &q)
			if err != nil {
				return err
			}
			var hosts []name.Host
			if !q.all {
				h, err := name.ParseHost(args[0])
				if err != nil {
					return usage(err)
				}
				if _, ok := p.Host(h); !ok {
					return withHint(fmt.Errorf("the policy does not know a host %q", h), "breakglass-ca policy who --all     lists every host that somebody can get into")
				}
				hosts = []name.Host{h}
			}
			return a.printAccess(cmd, &q, p, nil, hosts)
		},
	})
}

func newPolicyWhatCmd(a *app) *cobra.Command {
	var q accessFlags
	return q.add(a, &cobra.Command{
		Use: "what PERSON | what --all", Short: "List where a person can break glass", Args: cobra.MaximumNArgs(1), Long: "List where a person can break glass, by which rule and for how long.\n\n" + whoLong,
		Example: "  breakglass-ca policy what alice",
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.all == (len(args) == 1) {
				return usagef("say which person, or --all")
			}
			p, err := a.accessPolicy(cmd, &q)
			if err != nil {
				return err
			}
			var people []name.Person
			if !q.all {
				n, err := name.ParsePerson(args[0])
				if err != nil {
					return usage(err)
				}
				if _, ok := p.Person(n); !ok {
					return withHint(fmt.Errorf("the policy does not know a person %q", n), "breakglass-ca policy what --all     lists everybody who can get in somewhere")
				}
				people = []name.Person{n}
			}
			return a.printAccess(cmd, &q, p, people, nil)
		},
	})
}

func (a *app) accessPolicy(cmd *cobra.Command, q *accessFlags) (*policy.Policy, error) {
	if a.json && q.csv {
		return nil, usagef("--csv or --json, not both")
	}
	if q.policy != "" {
		return parsePolicy(cmd, q.policy)
	}
	return a.policyInForce(cmd.Context(), q.db)
}

// keysThatCount asks the CA's service how many keys of each person count now; nil if none runs.
func (a *app) keysThatCount(ctx context.Context) (keys map[name.Person]int, err error) {
	err = a.withService(ctx, func(ad *admin) error {
		return ad.call(ctx, http.MethodGet, "/admin/keys-that-count", nil, &keys)
	})
	if errors.Is(err, errNotRunning) {
		return nil, nil
	}
	return keys, err
}

// accessJSON is one way in as programs read it. Keys is left out where no service was asked.
type accessJSON struct {
	policy.Access
	Override string `json:"override,omitempty"` // as the policy writes it
	Keys     *int   `json:"keys,omitempty"`
}

func (a *app) printAccess(cmd *cobra.Command, q *accessFlags, p *policy.Policy, people []name.Person, hosts []name.Host) error {
	var keys map[name.Person]int // nil: nobody was asked
	if q.policy == "" && q.db == "" {
		var err error
		if keys, err = a.keysThatCount(cmd.Context()); err != nil {
			return err
		}
	}
	all := policy.Accesses(p, people, hosts)
	switch {
	case a.json:
		list := []accessJSON{}
		for x := range all {
			j := accessJSON{Access: x}
			if x.Override > 0 {
				j.Override = x.Override.String()
			}
			if n, ok := keys[x.Person]; ok {
				j.Keys = &n
			}
			list = append(list, j)
		}
		return a.printJSON(map[string]any{"sha256": p.SHA256, "access": list})
	case q.csv:
		w := csv.NewWriter(a.stdout)
		w.Write([]string{"person", "host", "login", "rule", "line", "minutes", "approvals", "approvers", "conditions", "override", "keys", "why"})
		for x := range all {
			override, count := "", ""
			if x.Override > 0 {
				override = strings.TrimSuffix(x.Override.String(), "0s") // 10m, as the policy has it
			}
			if n, ok := keys[x.Person]; ok {
				count = strconv.Itoa(n)
			}
			w.Write([]string{string(x.Person), cell(x.Host), string(x.Login), string(x.Rule), strconv.Itoa(x.Line), strconv.Itoa(x.Minutes), strconv.Itoa(x.Approvals),
				joined(x.Approvers), cell(strings.Join(x.Conditions, "; ")), override, count, cell(clean(x.Why))})
		}
		w.Flush()
		return w.Error()
	}
	return a.printWays(p, slices.Collect(all), keys)
}

// cell keeps a text that somebody wrote from being a formula where the table is opened (CSV injection): a pattern "*" is none, but "=", "+", "-", "@" are.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func joined[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	return strings.Join(out, ", ")
}

// way is what several people have in common: a rule on a host.
type way struct {
	policy.Access
	people []string
	logins []string
}

// printWays prints each rule on each host once, with the people whom it lets in.
func (a *app) printWays(p *policy.Policy, list []policy.Access, keys map[name.Person]int) error {
	if len(list) == 0 {
		fmt.Fprintln(a.stdout, "nobody, by any rule")
		return nil
	}
	var ways []*way
	for _, x := range list {
		var w *way
		if n := len(ways); n > 0 && ways[n-1].Host == x.Host && ways[n-1].Rule == x.Rule {
			w = ways[n-1]
		} else {
			w = &way{Access: x}
			ways = append(ways, w)
		}
		person := string(x.Person)
		if n, ok := keys[x.Person]; ok {
			person += " (" + count(n, "key") + ")"
		}
		if !slices.Contains(w.people, person) {
			w.people = append(w.people, person)
		}
		if !slices.Contains(w.logins, string(x.Login)) {
			w.logins = append(w.logins, string(x.Login))
		}
		for _, y := range x.Approvers { // one of the people may be another's approver
			if !slices.Contains(w.Approvers, y) {
				w.Approvers = append(slices.Clone(w.Approvers), y)
			}
		}
	}
	host := ""
	line := func(what, text string) {
		fmt.Fprintln(a.stdout, fold(fmt.Sprintf("    %-10s %s", what, clean(text)), 15))
	}
	for _, w := range ways {
		if w.Host != host {
			if host != "" {
				fmt.Fprintln(a.stdout)
			}
			host = w.Host
			fmt.Fprintln(a.stdout, host)
		}
		fmt.Fprintf(a.stdout, "  rule %s (line %d), %d min\n", w.Rule, w.Line, w.Minutes)
		line("people", strings.Join(w.people, ", "))
		line("as", strings.Join(w.logins, ", "))
		if w.Approvals > 0 {
			slices.Sort(w.Approvers)
			text := fmt.Sprintf("%s, of %s, never their own", count(w.Approvals, "approval"), joined(w.Approvers))
			if w.Override > 0 {
				text += fmt.Sprintf("; can be overridden after %.0f min", w.Override.Minutes())
			}
			line("wants", text)
		}
		if len(w.Conditions) > 0 {
			line("if", strings.Join(w.Conditions, "; "))
		}
	}
	if keys == nil {
		a.say("whose keys count, the CA's service would know: it was not asked")
	}
	return nil
}
