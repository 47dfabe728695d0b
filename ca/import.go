package ca

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/policy"
)

// This file adds new hosts to the policy in force by one operator's order. What may be added is policy.Import's to say; here stands that the order is
// for exactly this text behind exactly that policy, and that everybody decides by the new one from the entry on.

// maxImport bounds the hosts' text as JSON, in bytes: beside the statement and its signature it fits into an entry.
const maxImport = 48 << 10

// imported is an import's text and what would become of the policy, read before the writer's turn: a long policy takes a while.
type imported struct {
	hosts  string
	policy *policy.Policy // that it was read against
	next   *policy.Policy
	added  []policy.HostInfo
	err    error
}

func isImport(s string) error {
	_, _, err := statement.ParseImportTarget(s)
	return err
}

// readImport judges an import for an operator. For anybody else there is nothing to read: the order is refused for another reason, and costs no time.
func (c *CA) readImport(st *statement.Order, hosts string) imported {
	p := c.policy.Load()
	i := imported{hosts: hosts, policy: p}
	if st.Act != statement.OrderImportHosts || !p.IsOperator(st.Person) || st.Detail != sha256.Sum256([]byte(hosts)) {
		return i
	}
	if b, err := json.Marshal(hosts); err != nil || len(b) > maxImport {
		i.err = fmt.Errorf("the hosts take %d bytes, at most %d fit into an entry of the ledger: import them in two halves", len(b), maxImport)
		return i
	}
	i.next, i.added, i.err = policy.Import(p, hosts)
	return i
}

func (c *CA) orderImport(tx *state.Tx, o *order) (outcome, error) {
	before, after, err := statement.ParseImportTarget(o.Target)
	if err != nil {
		return outcome{}, err
	}
	i, p := o.imported, c.policy.Load()
	switch {
	case o.Detail != sha256.Sum256([]byte(i.hosts)):
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeImportRefused, Detail: "the text beside the signature is not the one that was signed for", Next: []string{"breakglass-ca host import …, again"}}
	case before != policySum(p) || i.policy != p:
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeOtherPolicy, Detail: "another policy came into force meanwhile: nothing was imported",
			Next: []string{"the same again: it reads the policy anew, and shows what is left to import"}}
	case i.err != nil:
		return outcome{}, importProblem(i.err)
	case policySum(i.next) != after:
		return outcome{}, &api.Problem{Status: 409, Code: api.CodeOtherPolicy, Detail: "the policy after this import is not the one that was signed for: nothing was imported", Next: []string{"this program and the CA may be of two versions: breakglass-ca --version"}}
	}
	site, err := tx.Site()
	if err != nil {
		return outcome{}, err
	}
	if err := oursOrTheirs(site.Site, i.added); err != nil {
		return outcome{}, importProblem(err)
	}
	for _, h := range i.added {
		o.done.Imported = append(o.done.Imported, h.Name)
	}
	// If it is not known whether the entry stands, what does is in force with the writer's next job: this one.
	o.after = func() { c.state.Do(context.Background(), func(*state.Tx) error { return nil }) }
	return outcome{facts: &ledger.PolicyImported{SHA256: after, Previous: before, Hosts: i.hosts}, then: func(tx *state.Tx) error {
		c.putInForce(tx, i.next)
		return nil
	}}, nil
}

func importProblem(err error) *api.Problem {
	p := &api.Problem{Status: 422, Code: api.CodeImportRefused, Detail: cut(err.Error(), maxPolicyFault)}
	var refused *policy.ImportError
	if !errors.As(err, &refused) {
		return p
	}
	// The entry has a reason a host, as many as anybody reads.
	for _, r := range refused.Refused[:min(len(refused.Refused), maxRefusals)] {
		p.Reasons = append(p.Reasons, ledger.Reason{Code: string(r.Code), Detail: r.Message})
		if !slices.Contains(p.Next, r.Next) {
			p.Next = append(p.Next, r.Next)
		}
	}
	return p
}

// maxRefusals bounds the reasons of a refused import.
const maxRefusals = 20

// oursOrTheirs finds hosts that would be the CA itself, or be vouched for by the key that vouches for the jumps: who holds that could then pass for
// any host.
func oursOrTheirs(site ledger.Site, added []policy.HostInfo) error {
	for _, h := range added {
		for _, k := range h.HostCA {
			if slices.Contains(site.HostCA, authorized(k)) {
				return fmt.Errorf("the host CA of %s is this CA's own", h.Name)
			}
		}
		for _, a := range h.Address {
			if slices.ContainsFunc(site.Addresses, func(own string) bool { return sameMachine(own, a) }) {
				return fmt.Errorf("%s is at %s, where this CA is", h.Name, a)
			}
		}
	}
	return nil
}

// sameMachine compares endpoints without their ports. The loopback is everybody's own.
func sameMachine(a, b string) bool {
	x, y := hostPart(a), hostPart(b)
	return x == y && !x.IsLoopback() && x.IsValid()
}

func hostPart(endpoint string) netip.Addr {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return netip.Addr{}
	}
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap()
}
