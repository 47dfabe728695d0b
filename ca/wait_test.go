package ca_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/catest"
)

// TestTheRequesterHearsOfEachChange: somebody has seen it, approved it, and it is decided; nobody polls.
func TestTheRequesterHearsOfEachChange(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	ctx := context.Background()
	st, err := a.State()
	catest.Must(t, err)
	next := func(do func()) *api.RequestState {
		t.Helper()
		type result struct {
			s   *api.RequestState
			err error
		}
		got := make(chan result, 1)
		since := st.Version
		go func() {
			s, err := a.Reader.AwaitRequest(ctx, a.ID, 20*time.Second, since)
			got <- result{s, err}
		}()
		do()
		select {
		case r := <-got:
			catest.Must(t, r.err)
			st = r.s
		case <-time.After(10 * time.Second):
			t.Fatal("nothing was heard")
		}
		return st
	}
	reader, err := c.carol.Pass()
	catest.Must(t, err)
	if s := next(func() { _, err := reader.Requests(ctx); catest.Must(t, err) }); !slices.Contains(s.Waiting.Approvers, api.Asked{Person: "carol", Seen: true}) {
		t.Errorf("%+v", s.Waiting)
	}
	if s := next(func() { c.yes(c.carol, a) }); s.Waiting.Given != 1 {
		t.Errorf("%+v", s.Waiting)
	}
	if s := next(func() { c.yes(c.dan, a) }); s.Granted == nil {
		t.Errorf("%+v", s)
	}
	// Nothing changes: the answer comes when the wait is over, and says the same.
	began := time.Now()
	s, err := a.Reader.AwaitRequest(ctx, a.ID, time.Second, st.Version)
	if err != nil || s.Version != st.Version || time.Since(began) < 900*time.Millisecond {
		t.Errorf("%+v, %v after %v", s, err, time.Since(began))
	}
	// A version that is behind is answered at once.
	if s, err := a.Reader.AwaitRequest(ctx, a.ID, 20*time.Second, st.Version-1); err != nil || s.Version != st.Version {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Client(catest.NewKey(t)).AwaitRequest(ctx, a.ID, time.Second, 0); problem(t, err).Code != api.CodePass {
		t.Errorf("a stranger waits: %v", err)
	}
	if _, err := c.Client(nil).AwaitRequest(ctx, a.ID, time.Second, 0); problem(t, err).Code != api.CodePass {
		t.Errorf("nobody waits: %v", err)
	}
}

// TestOnePersonHoldsFewLines: what is above is answered at once, and holds nothing.
func TestOnePersonHoldsFewLines(t *testing.T) {
	c := newCourt(t, "")
	a := c.ask()
	st, err := a.State()
	catest.Must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	early := make(chan struct{}, 64)
	for range 20 {
		wg.Go(func() {
			if _, err := a.Reader.AwaitRequest(ctx, a.ID, 20*time.Second, st.Version); err == nil {
				early <- struct{}{}
			}
		})
	}
	for range 4 {
		select {
		case <-early:
		case <-time.After(10 * time.Second):
			t.Fatal("more than 16 calls of one key hold the line")
		}
	}
	if _, err := c.alice.Request("root", "web01"); err != nil { // and the readers of the database are free
		t.Error(err)
	}
	stop()
	wg.Wait()
}
