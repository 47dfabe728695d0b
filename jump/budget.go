package jump

import (
	"errors"
	"fmt"
	"sync/atomic"

	"breakglass/internal/bytesize"
)

// A session carries as many bytes as the CA's answer says, both ways and all channels together. What would go beyond is neither recorded nor passed on:
// the session ends, with a word why. Each extension of the grant, a touch of its own, brings as much again.

// defaultBudget is for a CA that says nothing of it.
const defaultBudget = 16 << 30

// budget counts down.
type budget struct {
	each   int64
	all    atomic.Int64 // with what extensions brought
	spent  atomic.Int64
	warned atomic.Bool
	gone   atomic.Bool // the session was cut for it
}

var errBudget = errors.New("the session has carried all that it may")

// spend takes n bytes before they are recorded. warn is true once, when nine tenths are gone.
func (b *budget) spend(n int) (warn bool, err error) {
	all, spent := b.all.Load(), b.spent.Add(int64(n))
	if spent > all {
		b.spent.Add(-int64(n))
		return false, errBudget
	}
	return spent > all-all/10 && !b.warned.Swap(true), nil
}

// more is an extension's.
func (b *budget) more() {
	b.all.Add(b.each)
	b.warned.Store(false)
}

// spend takes n bytes of the session's budget, tells the person when it runs low, and cuts the session when it is gone.
func (s *session) spend(n int) error {
	warn, err := s.budget.spend(n)
	switch {
	case err != nil && !s.budget.gone.Swap(true):
		go s.cut(endBudget, fmt.Sprintf("breakglass: session cut: it has carried the %s that a session may. Nothing shown is missing.\r\n"+
			"breakglass: hint: breakglass extend %s brings as much again to a session that runs; connect anew: breakglass ssh %s", bytesize.Text(s.budget.all.Load()), s.order.session.Request(), s.target()))
	case warn:
		s.notice(fmt.Sprintf("breakglass: nine tenths of the %s that this session may carry are gone. More: breakglass extend %s", bytesize.Text(s.budget.all.Load()), s.order.session.Request()))
	}
	return err
}
