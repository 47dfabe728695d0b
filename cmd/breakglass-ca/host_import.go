package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/durable"
	"breakglass/internal/inventory"
	"breakglass/internal/name"
	"breakglass/internal/policytext"
	"breakglass/internal/statement"
	"breakglass/policy"
)

// importFlags are those of host import.
type importFlags struct {
	groups                  []string
	knownHosts, out, policy string
}

func newHostImportCmd(a *app) *cobra.Command {
	var q importFlags
	c := a.withDir(&cobra.Command{
		Use: "import known_hosts|ansible|csv FILE", Short: "Add new hosts to groups that the policy opens; it takes your touch", Args: cobra.ExactArgs(2),
		Long: `Reads hosts from a file (- is standard input), shows what would become of each, and has your key sign for the new ones: the CA then knows them at
once. It takes an operator, and groups with import = true under [host_groups.NAME] of the policy that the owners signed. What is known of a host is
changed by the owners' next policy alone; with --out the new hosts are written to a file for that, and nothing is asked of your key.

No key is fetched: known_hosts has them, a CSV has a column host_key, and for an Ansible inventory say --known-hosts FILE.
A CSV begins with name,address,groups,host_key; several in one field are parted by ';'.`,
		Example: `  breakglass-ca host import known_hosts ~/.ssh/known_hosts --group web
  breakglass-ca host import ansible hosts.ini --known-hosts /etc/ssh/ssh_known_hosts
  breakglass-ca host import csv new.csv --out hosts/new.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := readInventory(cmd, args[0], args[1], q.knownHosts)
			if err != nil {
				return err
			}
			for _, g := range q.groups {
				if _, err := name.ParseGroup(g); err != nil {
					return usage(err)
				}
			}
			for i := range list.Hosts {
				if len(q.groups) > 0 {
					list.Hosts[i].Groups = q.groups
				}
			}
			return a.hostImport(cmd, list, q)
		},
	})
	f := c.Flags()
	f.StringArrayVar(&q.groups, "group", nil, "the group of every host, in place of what the file says (again for more)")
	f.StringVar(&q.knownHosts, "known-hosts", "", "take the keys of hosts that have none from this known_hosts file")
	f.StringVar(&q.out, "out", "", "write the new hosts to this file, for the owners' next policy, and import nothing")
	f.StringVar(&q.policy, "policy", "", "compare with this policy, a file or directory, in place of asking the CA for the one in force; for --out")
	f.BoolVar(&a.show, "show", false, "print the statement before it is signed")
	return c
}

func readInventory(cmd *cobra.Command, kind, file, knownHosts string) (list *inventory.List, err error) {
	if !slices.Contains([]string{"known_hosts", "ansible", "csv"}, kind) {
		return nil, usagef("%q: want known_hosts, ansible or csv", kind)
	}
	b, err := readLimited(file, cmd.InOrStdin(), inventory.MaxBytes)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "known_hosts":
		list = inventory.KnownHosts(string(b))
	case "ansible":
		list, err = inventory.Ansible(string(b))
	default:
		list, err = inventory.CSV(string(b))
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	if knownHosts != "" {
		b, err := readLimited(knownHosts, cmd.InOrStdin(), inventory.MaxBytes)
		if err != nil {
			return nil, err
		}
		list.AddKeys(inventory.KnownHosts(string(b)))
	}
	return list, nil
}

// hostImport shows what would become of each host, and does it.
func (a *app) hostImport(cmd *cobra.Command, list *inventory.List, q importFlags) error {
	ctx := cmd.Context()
	if q.policy != "" && q.out == "" {
		return usagef("--policy goes with --out: what is imported stands behind the policy in force")
	}
	p, err := a.policyToCompare(cmd, q.policy)
	if err != nil {
		return err
	}
	plan := planImport(p, list, q.out != "")
	if !a.json {
		plan.show(a)
	}
	switch {
	case len(plan.added) == 0:
		a.say("nothing new")
	case q.out != "":
		if err := durable.WriteFile(q.out, []byte(plan.text()), 0o644); err != nil {
			return err
		}
		a.say("%s written to %s; nothing was imported", count(len(plan.added), "host"), q.out)
		a.say("next: put it into hosts/ beside policy.toml, then breakglass policy propose DIR")
	default:
		if err := a.importPlan(ctx, p, plan); err != nil {
			return err
		}
	}
	if a.json {
		if err := a.printJSON(plan.json()); err != nil {
			return err
		}
	}
	if n := len(plan.refused); n > 0 {
		return fmt.Errorf("%s not imported: see above", count(n, "line"))
	}
	return nil
}

// policyToCompare is the policy in force, of the CA on this machine or of the operator's pins, or the one that was named.
func (a *app) policyToCompare(cmd *cobra.Command, file string) (*policy.Policy, error) {
	if file != "" {
		return parsePolicy(cmd, file)
	}
	ctx := cmd.Context()
	if a.here(cmd) {
		return a.policyAtWork(ctx)
	}
	o, err := a.operator(ctx)
	if err != nil {
		return nil, err
	}
	defer o.forget()
	a.say("reading the policy takes a pass: a touch, unless you gave one in the last minutes")
	c, err := o.me.Pass(ctx)
	if err != nil {
		return nil, err
	}
	s, err := c.Policy(ctx)
	if err != nil {
		return nil, err
	}
	return policy.Parse("policy in force", []byte(s.Text))
}

// policyAtWork asks the CA of --dir for the policy in force.
func (a *app) policyAtWork(ctx context.Context) (*policy.Policy, error) {
	var s api.PolicyState
	if err := a.withAdmin(ctx, func(ad *admin) error { return ad.call(ctx, http.MethodGet, "/admin/policy", nil, &s) }); err != nil {
		return nil, err
	}
	return policy.Parse("policy in force", []byte(s.Text))
}

// importPlan has the operator sign for the new hosts, in as many orders as their text takes.
func (a *app) importPlan(ctx context.Context, p *policy.Policy, plan *importPlan) error {
	o, err := a.operator(ctx)
	if err != nil {
		return err
	}
	defer o.forget()
	parts := plan.parts()
	if len(parts) > 1 {
		a.say("%s: one entry of the ledger holds %d bytes, so this takes %s", count(len(plan.added), "host"), policy.MaxImport, count(len(parts), "touch"))
	}
	before := string(p.Source)
	for _, hosts := range parts {
		after, err := policytext.Import(before, hosts)
		if err != nil {
			return err
		}
		done, err := o.agent.Import(ctx, o.client, o.name, hosts, sha256.Sum256([]byte(before)), sha256.Sum256([]byte(after)))
		if err != nil {
			return err
		}
		plan.imported = append(plan.imported, done.Imported...)
		plan.policy = sha256.Sum256([]byte(after))
		before = after
	}
	a.say("imported: %s; the policy in force is %s", count(len(plan.imported), "host"), plan.policy)
	a.say("next, on each: the files of  breakglass-ca host setup HOST  (on the CA's machine)")
	return nil
}

// importPlan is what would become of each host of a file.
type importPlan struct {
	added     []inventory.Host
	unchanged []string
	refused   []inventory.Refused

	imported []name.Host
	policy   statement.Hash
}

// planImport sorts the hosts of a file by what a policy would make of them. forOwners: they are for the owners' next policy, which may hold any new host.
func planImport(p *policy.Policy, list *inventory.List, forOwners bool) *importPlan {
	plan := &importPlan{refused: list.Refused}
	refuse := func(h inventory.Host, next, why string, args ...any) {
		plan.refused = append(plan.refused, inventory.Refused{Line: h.Line, What: h.Name, Why: fmt.Sprintf(why, args...), Next: next})
	}
	for _, h := range list.Hosts {
		known, ok := p.Host(name.Host(h.Name))
		switch {
		case ok:
			if what := differs(h, known); len(what) > 0 {
				refuse(h, "what is known of a host is changed by the owners' next policy: breakglass policy propose",
					"%s is known, with %s", h.Name, strings.Join(what, " and "))
			} else {
				plan.unchanged = append(plan.unchanged, h.Name)
			}
		case len(h.Keys)+len(h.CA) == 0:
			refuse(h, "--known-hosts FILE, or a column host_key: nothing is fetched, and nothing trusted on first use", "%s has no key to check it by", h.Name)
		case len(h.Address) == 0:
			refuse(h, "write its address", "%s has no address", h.Name)
		default:
			plan.added = append(plan.added, h)
		}
	}
	if forOwners {
		return plan
	}
	lines := map[string]int{}
	for _, h := range plan.added {
		lines[h.Name] = h.Line
	}
	for len(plan.added) > 0 { // what one refusal leaves may be refused for another reason: two at one address
		refused := map[string]bool{}
		before := p
		for _, hosts := range plan.parts() {
			after, _, err := policy.Import(before, hosts)
			var ie *policy.ImportError
			switch {
			case errors.As(err, &ie):
				for _, r := range ie.Refused {
					if !refused[r.Host] {
						plan.refused = append(plan.refused, inventory.Refused{Line: lines[r.Host], What: r.Host, Why: r.Message, Next: r.Next})
					}
					refused[r.Host] = true
				}
			case err != nil: // of the whole: nothing of it goes
				plan.refused = append(plan.refused, inventory.Refused{What: "all", Why: err.Error(), Next: "mend it, or write it with --out for the owners' next policy"})
				plan.added = nil
				return plan
			default:
				before = after
			}
		}
		if len(refused) == 0 {
			return plan
		}
		plan.added = slices.DeleteFunc(plan.added, func(h inventory.Host) bool { return refused[h.Name] })
	}
	return plan
}

// differs says in what a file's host is another than the policy's. What the file doesn't say is no difference.
func differs(h inventory.Host, known policy.HostInfo) (out []string) {
	if len(h.Keys) > 0 && !sameKeys(h.Keys, known.HostKeys) {
		out = append(out, "another host key ("+fingerprints(known.HostKeys)+"; the file has "+fingerprints(parseKeys(h.Keys))+")")
	}
	if len(h.CA) > 0 && !sameKeys(h.CA, known.HostCA) {
		out = append(out, "another host CA")
	}
	if slices.ContainsFunc(h.Address, func(a string) bool {
		return !slices.Contains(known.Address, a) && !strings.HasPrefix(a, h.Name+":") // known_hosts has each by its name
	}) {
		out = append(out, "another address ("+strings.Join(known.Address, ", ")+")")
	}
	groups := make([]string, len(known.Groups))
	for i, g := range known.Groups {
		groups[i] = string(g)
	}
	if len(h.Groups) > 0 && slices.ContainsFunc(h.Groups, func(g string) bool { return !slices.Contains(groups, g) }) {
		out = append(out, "other groups ("+strings.Join(groups, ", ")+")")
	}
	return out
}

// sameKeys: a known_hosts may hold one of a host's keys; each that it has must be known.
func sameKeys(lines []string, known []ssh.PublicKey) bool {
	for _, k := range parseKeys(lines) {
		if !slices.ContainsFunc(known, func(x ssh.PublicKey) bool { return policy.SameKey(x, k) }) {
			return false
		}
	}
	return true
}

func parseKeys(lines []string) (out []ssh.PublicKey) {
	for _, l := range lines {
		if k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(l)); err == nil { // the parsers give only lines that are keys
			out = append(out, k)
		}
	}
	return out
}

func fingerprints(keys []ssh.PublicKey) string {
	var out []string
	for _, k := range keys {
		out = append(out, ssh.FingerprintSHA256(k))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// text is the file of the new hosts.
func (plan *importPlan) text() string { return strings.Join(entriesOf(plan.added), "") }

func entriesOf(hosts []inventory.Host) (out []string) {
	for _, h := range hosts {
		out = append(out, h.TOML())
	}
	return out
}

// parts cuts the text between hosts, so that each part fits one order.
func (plan *importPlan) parts() (out []string) {
	part := ""
	for _, e := range entriesOf(plan.added) {
		if len(part)+len(e) > policy.MaxImport {
			out = append(out, part)
			part = ""
		}
		part += e
	}
	if part != "" {
		out = append(out, part)
	}
	return out
}

// show prints the diff: + new, = as it is, ! refused and what to do.
func (plan *importPlan) show(a *app) {
	for _, h := range plan.added {
		fmt.Fprintf(a.stdout, "+ %s  %s  %s\n", clean(h.Name), clean(strings.Join(h.Address, " ")), clean(strings.Join(h.Groups, ",")))
		for _, k := range parseKeys(h.Keys) {
			fmt.Fprintf(a.stdout, "    key %s %s\n", k.Type(), ssh.FingerprintSHA256(k))
		}
		for _, k := range parseKeys(h.CA) {
			fmt.Fprintf(a.stdout, "    CA  %s %s\n", k.Type(), ssh.FingerprintSHA256(k))
		}
	}
	for _, n := range plan.unchanged {
		fmt.Fprintf(a.stdout, "= %s\n", clean(n))
	}
	for _, r := range plan.refused {
		at := ""
		if r.Line > 0 {
			at = fmt.Sprintf("line %d: ", r.Line)
		}
		what := ""
		if r.What != "" && !strings.HasPrefix(r.Why, r.What) {
			what = r.What + ": "
		}
		fmt.Fprintf(a.stdout, "! %s%s%s\n    %s\n", at, clean(what), clean(r.Why), clean(r.Next))
	}
}

func (plan *importPlan) json() any {
	type refusal struct {
		Line int    `json:"line,omitempty"`
		What string `json:"what"`
		Why  string `json:"why"`
		Next string `json:"next"`
	}
	refused := []refusal{}
	for _, r := range plan.refused {
		refused = append(refused, refusal(r))
	}
	added := []string{}
	for _, h := range plan.added {
		added = append(added, h.Name)
	}
	out := map[string]any{"new": added, "unchanged": slices.Concat([]string{}, plan.unchanged), "refused": refused}
	if len(plan.imported) > 0 {
		out["imported"], out["policy"] = plan.imported, plan.policy
	}
	return out
}
