package listen

import (
	"errors"
	"net"
	"sync"
)

// Merge makes one listener of several. Close closes all of them, and loses no connection that one of them had accepted by then: Accept gives
// those first, and net.ErrClosed when there is none left. Somebody must call it until then.
func Merge(ls []net.Listener) net.Listener {
	if len(ls) == 1 {
		return ls[0]
	}
	m := &merged{listeners: ls, conns: make(chan accepted), over: make(chan struct{})}
	var wg sync.WaitGroup
	for _, l := range ls {
		wg.Go(func() { m.accept(l) })
	}
	go func() { wg.Wait(); close(m.over) }()
	return m
}

type accepted struct {
	conn net.Conn
	err  error
}

// merged hands out what any of its listeners accepts.
type merged struct {
	listeners []net.Listener
	conns     chan accepted
	over      chan struct{} // closed when all listeners are
}

func (m *merged) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		m.conns <- accepted{c, err}
	}
}

func (m *merged) Accept() (net.Conn, error) {
	select {
	case a := <-m.conns:
		return a.conn, a.err
	case <-m.over:
		return nil, net.ErrClosed
	}
}

func (m *merged) Addr() net.Addr { return m.listeners[0].Addr() }

func (m *merged) Close() error {
	var errs []error
	for _, l := range m.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
