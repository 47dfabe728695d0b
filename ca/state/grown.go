package state

import "sync"

// growth wakes those who wait for the ledger to grow. Nobody waiting costs a commit nothing but a lock.
type growth struct {
	mu sync.Mutex
	ch chan struct{} // nil while nobody waits
}

// Grown gives a channel that is closed when the ledger has grown after this call. Whoever waits for an entry asks for it first and looks
// then, so that one which comes between the two is not slept over.
func (s *State) Grown() <-chan struct{} {
	s.grown.mu.Lock()
	defer s.grown.mu.Unlock()
	if s.grown.ch == nil {
		s.grown.ch = make(chan struct{})
	}
	return s.grown.ch
}

func (g *growth) tell() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ch != nil {
		close(g.ch)
		g.ch = nil
	}
}
