package replay

// Held is how many policies are held read.
func (s *Policies) Held() int { return len(s.read) }
