package policy

// asksFor tells whether under s there is somebody to ask in place of the geo databases, for each whom r names: where there is nobody, s refuses
// an unknown place that r may take.
func (s *Rule) asksFor(r *Rule) bool {
	for n := range r.who {
		if len(s.approversFor(n)) <= s.Approvals {
			return false
		}
	}
	return true
}
