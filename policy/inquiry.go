package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Inquiry is all that one decision stood on beside the policy: the same Inquiry under the same policy has the same answer, for ever. Its JSON stands
// in the ledger's entry of every decision, so that the decision can be made again.
type Inquiry struct {
	Request Request `json:"request"`
	Facts   Facts   `json:"facts"`
	// Grant is the grant under which a session opens; nil of all other requests. Request is then what was asked for it.
	Grant *GrantTime `json:"grant,omitempty"`
}

// GrantTime is when a grant's minutes began and when they end (Grant).
type GrantTime struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// MaxInquiry bounds an Inquiry's JSON: it has to fit into a ledger's entry, beside a statement and its signature.
const MaxInquiry = 40 << 10

// ErrInquiry is what the errors of ParseInquiry and Text wrap.
var ErrInquiry = errors.New("malformed inquiry")

// Answer decides.
func (q *Inquiry) Answer(p *Policy) Decision {
	if q.Grant != nil {
		return DecideSession(p, Grant{Request: q.Request, Start: q.Grant.Start, End: q.Grant.End}, q.Facts)
	}
	return Decide(p, q.Request, q.Facts)
}

// AnswerLines decides as Answer does, and says which line of the policy it comes from: of a deny its first reason's, else the rule's. 0 is no line: a
// person, host or rule that isn't there.
func (q *Inquiry) AnswerLines(p *Policy) (Decision, int) {
	d := q.Answer(p)
	if d.Outcome != Deny || len(d.Reasons) == 0 {
		r, _ := p.Rule(d.Rule)
		return d, r.Line
	}
	e := &evaluation{p: p, req: q.Request, facts: q.Facts, lines: map[Reason]int{}}
	if q.Grant != nil {
		e.req.Kind = KindSession
	}
	e.run()
	return d, e.lines[d.Reasons[0]]
}

// Text is the Inquiry as one line of JSON. Times are in UTC: no decision depends on the zone of whoever wrote one down.
func (q *Inquiry) Text() ([]byte, error) {
	u := *q
	u.Facts.Now = q.Facts.Now.UTC()
	if q.Grant != nil {
		u.Grant = &GrantTime{q.Grant.Start.UTC(), q.Grant.End.UTC()}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // reasons stay readable
	if err := e.Encode(&u); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInquiry, err)
	}
	if b.Len() > MaxInquiry {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrInquiry, b.Len(), MaxInquiry)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ParseInquiry reads what Text wrote. A field that it doesn't know is an error: a fact that is not understood may be the one that decided.
func ParseInquiry(text []byte) (*Inquiry, error) {
	if len(text) > MaxInquiry {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrInquiry, len(text), MaxInquiry)
	}
	q := new(Inquiry)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInquiry, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows it", ErrInquiry)
	}
	return q, nil
}
