package ca

import (
	"encoding/json"

	"breakglass/ledger"
	"breakglass/policy"
)

// asked is what the entry of a decision says that the policy was asked. One that is too long for an entry (hundreds of live grants of one person)
// is left out: the decision stands as it is, it can't be made again from its entry, and nobody is kept out at night for that.
func (c *CA) asked(q *policy.Inquiry) json.RawMessage {
	text, err := q.Text()
	if err != nil {
		c.log.Error("a decision can't be replayed from its entry", "person", q.Request.Person, "error", err)
		return nil
	}
	return text
}

// notThePolicy is what the entry says of the facts where the policy was asked and it was something else that refused: what it answered is not
// what stands there.
func notThePolicy(used ledger.Used) ledger.Used {
	used.Asked = nil
	return used
}
