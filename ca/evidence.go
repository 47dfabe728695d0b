package ca

import (
	"context"
	"errors"
	"maps"
	"slices"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// evidence gathers every entry about a request and those that they stand on (site, policies, founding, invites, keys and their suspensions, jumps, recipients, passes of readers),
// each proved to one checkpoint.
func (c *CA) evidence(ctx context.Context, id name.RequestID, who *caller) (*api.Evidence, error) {
	if who == nil || who.person == "" {
		return nil, passNeeded()
	}
	out := &api.Evidence{Request: id}
	var row state.Request // zero if there is none
	// Under a head that the witnesses cosigned, as soon as there is one over all this; where there is none the newest has to do.
	if ws, _, err := c.witnesses(ctx); err != nil {
		return nil, err
	} else if head, _ := c.state.Head(); ws.Quorum > 0 {
		c.coveredBy(ctx, head.Size, evidencePatience)
	}
	err := c.state.View(ctx, func(tx *state.Tx) error {
		var err error
		if row, err = tx.Request(id); err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		own, err := c.ofGrant(tx, id, out)
		if err != nil {
			return err
		}
		if len(own) == 0 {
			return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "no entry is about " + string(id), Next: []string{"breakglass sessions"}}
		}
		want := map[int64]bool{}
		for _, typ := range []ledger.Type{"site.created", "site.changed", "founding"} {
			list, err := tx.OfType(typ)
			if err != nil {
				return err
			}
			for _, n := range list {
				want[n] = true
			}
		}
		needs := &standsOn{tx: tx, want: want, readers: map[string]bool{}, keys: map[string]bool{}}
		for _, n := range own {
			want[n] = true
			if err := needs.entry(n); err != nil {
				return err
			}
		}
		if err := needs.machinesAndReaders(); err != nil {
			return err
		}
		for before := -1; before != len(want); { // whoever signed a policy has a key, which somebody vouched for, whose make a policy listed
			before = len(want)
			if err := errors.Join(needs.policies(), needs.standing()); err != nil {
				return err
			}
		}
		if err := needs.suspensions(); err != nil {
			return err
		}
		var order []int64
		for n := range want {
			order = append(order, n)
		}
		slices.Sort(order)
		head, note, err := tx.Head()
		if err != nil {
			return err
		}
		if w, cosigned := c.Witnessed(); len(order) > 0 && w.Size > order[len(order)-1] && w.Size <= head.Size {
			head, note = w, cosigned
		}
		out.Checkpoint = note
		for _, n := range order {
			e, err := proven(tx, head.Size, n)
			if err != nil {
				return err
			}
			out.Entries = append(out.Entries, e)
		}
		return nil
	})
	if err == nil {
		c.shown(&row, who)
	}
	return out, err
}

// ofGrant gives the indexes of the entries about a request, and about what was asked about it under ids of their own: its extensions, and overrides that
// were refused. An extension's evidence is its grant's.
func (c *CA) ofGrant(tx *state.Tx, id name.RequestID, out *api.Evidence) ([]int64, error) {
	row, err := tx.Request(id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if row.Kind == statement.RequestExtend && row.State != "denied" {
		out.Request = row.Of
		if row, err = tx.Request(row.Of); err != nil {
			return nil, err
		}
	}
	own, err := tx.OfRequest(string(row.ID))
	if err != nil {
		return nil, err
	}
	about, err := tx.RequestsOf(row.ID)
	for _, r := range about {
		if r.Person != row.Person { // somebody else's act, refused: no part of this
			continue
		}
		more, err := tx.OfRequest(string(r.ID))
		if err != nil {
			return nil, err
		}
		own = append(own, more...)
	}
	return own, err
}

type standsOn struct {
	tx      *state.Tx
	want    map[int64]bool
	readers map[string]bool // passes
	ages    map[string]bool
	jumps   map[name.Jump]bool
	keys    map[string]bool // fingerprints
	upTo    int64           // the last entry wanted that put a policy in force
}

// entry adds what the entry names.
func (s *standsOn) entry(n int64) error {
	b, err := s.tx.Entry(n)
	if err != nil {
		return err
	}
	e, err := ledger.Decode(b)
	if err != nil {
		return err
	}
	if s.jumps == nil {
		s.jumps, s.ages = map[name.Jump]bool{}, map[string]bool{}
	}
	if e.Subject.Jump != "" {
		s.jumps[e.Subject.Jump] = true
	}
	if e.SSHSIG != "" {
		if sig, err := sshsig.Parse([]byte(e.SSHSIG)); err == nil {
			if err := s.key(ssh.FingerprintSHA256(sig.PublicKey)); err != nil {
				return err
			}
		}
	}
	switch f := e.Facts.(type) {
	case *ledger.RequestOpened:
		if f.Waits != nil {
			return s.policy(f.Waits.Used.Policy)
		}
	case *ledger.GrantAllowed:
		return s.policy(f.Used.Policy)
	case *ledger.GrantExtended:
		return s.policy(f.Used.Policy)
	case *ledger.RequestDenied:
		return s.policy(f.Used.Policy)
	case *ledger.SessionOpened:
		for _, a := range f.Recipients {
			s.ages[a] = true
		}
		if f.Set > 0 {
			s.want[f.Set] = true
		}
		return s.policy(f.Policy)
	case *ledger.TranscriptRead:
		s.readers[f.Pass] = true
	case *ledger.SessionWatched:
		s.readers[f.Pass] = true
	case *ledger.Revoked:
		if f.Pass != "" {
			s.readers[f.Pass] = true
		}
	}
	return nil
}

// policy wants a policy, and so all that came before it: each stands on the signatures of owners whom the one before names.
func (s *standsOn) policy(h statement.Hash) error {
	n, err := s.tx.PolicyIndex(h.String())
	if err == nil {
		s.upTo = max(s.upTo, n)
	}
	return err
}

// policies adds the entries that put a policy in force up to the last one wanted, with their pieces and who signed.
func (s *standsOn) policies() error {
	for _, typ := range []ledger.Type{"policy.text", "policy.signed", "policy.adopted", "policy.imported"} {
		list, err := s.tx.OfType(typ)
		if err != nil {
			return err
		}
		for _, n := range list {
			if n > s.upTo || s.want[n] {
				continue
			}
			s.want[n] = true
			if err := s.entry(n); err != nil { // with the key that signed it
				return err
			}
		}
	}
	return nil
}

func (s *standsOn) key(fp string) error {
	k, err := s.tx.Key(fp)
	if errors.Is(err, state.ErrNotFound) {
		return nil // a machine's
	}
	if err != nil || s.keys[fp] {
		return err
	}
	s.want[k.Index] = true
	s.keys[fp] = true
	b, err := s.tx.Entry(k.Index)
	if err != nil {
		return err
	}
	e, err := ledger.Decode(b)
	if err != nil {
		return err
	}
	// The policy that listed its model: without it the bundle shows what the key proved, and not that it was enough.
	if f, ok := e.Facts.(*ledger.KeyEnrolled); ok && f.Attestation != nil && f.Attestation.Policy != (statement.Hash{}) {
		return s.policy(f.Attestation.Policy)
	}
	return nil
}

// standing adds what lets those keys count: the owners' signatures under the founding, or who vouched for a key; and those keys' in turn.
func (s *standsOn) standing() error {
	signed, err := s.tx.OfType("founding.signed")
	if err != nil {
		return err
	}
	for _, n := range signed {
		s.want[n] = true
		if err := s.entry(n); err != nil {
			return err
		}
	}
	founded, err := s.tx.OfType("founding")
	if err != nil {
		return err
	}
	for _, n := range founded {
		e, err := s.decoded(n)
		if err != nil {
			return err
		}
		if f, ok := e.Facts.(*ledger.Founding); ok {
			if err := s.policy(f.Policy); err != nil {
				return err
			}
		}
	}
	vouched, err := s.of("key.vouched")
	if err != nil {
		return err
	}
	renewed, err := s.of("enrolment.renewed")
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for more := true; more; {
		more = false
		for fp := range maps.Clone(s.keys) {
			if done[fp] {
				continue
			}
			done[fp], more = true, true
			k, err := s.tx.Key(fp)
			if err != nil {
				return err
			}
			for _, n := range renewed[string(k.Person)] {
				s.want[n] = true
			}
			if len(vouched[fp]) == 0 {
				continue
			}
			for _, n := range vouched[fp] {
				s.want[n] = true
			}
			given, err := s.vouches(k.Enrolment)
			if err != nil {
				return err
			}
			for _, n := range given {
				s.want[n] = true
				if err := s.entry(n); err != nil { // with the key that signed it
					return err
				}
			}
		}
	}
	return nil
}

// of lists the entries of a type by the key, or else the person, that they are about.
func (s *standsOn) of(typ ledger.Type) (map[string][]int64, error) {
	list, err := s.tx.OfType(typ)
	if err != nil {
		return nil, err
	}
	out := map[string][]int64{}
	for _, n := range list {
		e, err := s.decoded(n)
		if err != nil {
			return nil, err
		}
		about := e.Subject.Key
		if about == "" {
			about = string(e.Subject.Person)
		}
		out[about] = append(out[about], n)
	}
	return out, nil
}

// vouches are the approvals of an enrolment.
func (s *standsOn) vouches(enrolment string) (out []int64, err error) {
	list, err := s.tx.OfType("approval.given")
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		e, err := s.decoded(n)
		if err != nil {
			return nil, err
		}
		if f, ok := e.Facts.(*ledger.ApprovalGiven); ok && f.About == statement.AboutEnrolment && f.Of == enrolment {
			out = append(out, n)
		}
	}
	return out, nil
}

func (s *standsOn) decoded(n int64) (*ledger.Entry, error) {
	b, err := s.tx.Entry(n)
	if err != nil {
		return nil, err
	}
	return ledger.Decode(b)
}

// suspensions adds what became of the keys: a signature by one that was suspended before must show, and one that was lifted must not.
func (s *standsOn) suspensions() error {
	list, err := s.tx.OfType("key.suspended")
	if err != nil {
		return err
	}
	lifted, err := s.tx.OfType("key.unlocked")
	if err != nil {
		return err
	}
	for _, n := range append(list, lifted...) {
		b, err := s.tx.Entry(n)
		if err != nil {
			return err
		}
		e, err := ledger.Decode(b)
		if err != nil {
			return err
		}
		if s.keys[e.Subject.Key] {
			s.want[n] = true
		}
	}
	return nil
}

// machinesAndReaders adds the entries of jumps, recipients and passes, and the keys that signed for them.
func (s *standsOn) machinesAndReaders() error {
	for j := range s.jumps {
		row, err := s.tx.Jump(j)
		if err != nil {
			return err
		}
		s.want[row.Index] = true
	}
	var recipients []int64
	for _, typ := range []ledger.Type{"recipient.added", "recipient.rotated", "recovery.set"} {
		list, err := s.tx.OfType(typ)
		if err != nil {
			return err
		}
		recipients = append(recipients, list...)
	}
	passes, err := s.tx.OfType("pass.granted")
	if err != nil {
		return err
	}
	for _, n := range append(recipients, passes...) {
		b, err := s.tx.Entry(n)
		if err != nil {
			return err
		}
		e, err := ledger.Decode(b)
		if err != nil {
			return err
		}
		switch f := e.Facts.(type) {
		case *ledger.RecipientAdded:
			if !s.ages[f.Age] {
				continue
			}
		case *ledger.RecipientRotated:
			if !s.ages[f.Age] {
				continue
			}
		case *ledger.RecoverySet:
			if !s.ages[f.Age] {
				continue
			}
		case *ledger.PassGranted:
			if !s.readers[f.Pass] {
				continue
			}
		}
		s.want[n] = true
		if err := s.key(e.Subject.Key); err != nil {
			return err
		}
	}
	return nil
}
