package jump

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ledger"
	"breakglass/transcript"
)

// A client that opens channels faster than anybody can answer them is cut; its neighbour notices nothing.
func TestAFloodOfChannelsIsCut(t *testing.T) {
	w := newWorld(t)
	g, other := w.grant(), w.grant()
	neighbour := w.client(other)
	defer neighbour.Close()
	c := w.client(g)
	defer c.Close()
	over := make(chan struct{})
	go func() { c.Wait(); close(over) }()
	for range 8 * maxPending { // far more than are judged in the time in which they come
		go func() {
			if _, reqs, err := c.OpenChannel("session", nil); err == nil {
				ssh.DiscardRequests(reqs)
			}
		}()
	}
	select {
	case <-over:
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	if rec := w.session(g, 1); rec.end == nil || rec.end.Reason != endFlood {
		t.Errorf("ended %+v", rec.end)
	}
	s, err := neighbour.NewSession()
	check(t, err)
	if b, err := s.Output("echo there"); string(b) != "there\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// Requests cost the store as much as data: what they put into the recording is part of the session's budget.
func TestRequestsAreInTheBudget(t *testing.T) {
	w := newWorld(t, func(w *world) { w.ca.change = func(o *ledger.SessionOpened) { o.Budget = 1 << 20 } })
	g := w.grant()
	c := w.client(g)
	defer c.Close()
	n := 0
	for ; n < 100; n++ {
		if _, _, err := c.SendRequest("x@example.com", true, make([]byte, 100_000)); err != nil {
			break
		}
	}
	if n < 5 || n > 50 {
		t.Errorf("%d requests of 100,000 bytes", n)
	}
	rec := w.session(g, 1)
	if rec.end == nil || rec.end.Reason != endBudget {
		t.Errorf("ended %+v", rec.end)
	}
	size := 0
	for _, e := range rec.events {
		if e.Kind == transcript.KindGlobal {
			size += len(e.Data)
		}
	}
	if size > 1<<20+200_000 {
		t.Errorf("%d bytes of requests are recorded", size)
	}
}

// Many requests in a row are slowed, not refused: all are answered, in order.
func TestManyRequestsAreSlowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.grant()
	c := w.client(g)
	r := w.raw(c)
	for n := range requestBurst + 100 {
		if ok, err := r.SendRequest("x@example.com", true, str(fmt.Sprint(n))); ok || err != nil {
			t.Fatalf("request %d: %v, %v", n, ok, err)
		}
	}
	r.ask("exec", str("echo there"))
	if got := r.all(); got != "there\n" {
		t.Errorf("%q", got)
	}
	c.Close()
	w.session(g, 1).has("denied person x@example.com", "x@example.com")
}
