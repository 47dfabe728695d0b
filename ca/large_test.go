package ca_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"breakglass/ca/api"
	"breakglass/ca/catest"
)

// slow is somebody who doesn't take their answer.
type slow struct {
	*httptest.ResponseRecorder
	once    sync.Once
	writing chan struct{}
	take    chan struct{}
}

func (s *slow) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.writing) })
	<-s.take
	return s.ResponseRecorder.Write(b)
}

// TestAPassHoldsFewLargeAnswers: a policy's text and evidence are megabytes at a large site, and five hundred at once with one engineer's pass, read
// slowly, would be all of the CA's memory.
func TestAPassHoldsFewLargeAnswers(t *testing.T) {
	clk := &clock{}
	c := catest.New(t, catest.Config{Now: clk.now})
	bob := c.Enrol("bob")
	ctx := context.Background()
	key := catest.NewKey(t)
	ch, err := c.Client(nil).Pass(ctx, api.PassAsk{Person: "bob", Holder: catest.Line(key.PublicKey())})
	catest.Must(t, err)
	_, err = c.Client(nil).SignPass(ctx, ch.ID, api.Signed{SSHSIG: bob.Sign(ch)})
	catest.Must(t, err)
	h := c.CA.Handler()
	call := func(method, path, body string) *http.Request {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:4000"
		signed(t, &stage{CA: c, clock: clk}, r, key, []byte(body))
		return r
	}
	code := func(method, path, body string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, call(method, path, body))
		return w.Code
	}
	var held []*slow
	var under sync.WaitGroup
	for range 2 {
		w := &slow{ResponseRecorder: httptest.NewRecorder(), writing: make(chan struct{}), take: make(chan struct{})}
		r := call("GET", "/v1/policy", "")
		under.Add(1)
		go func() {
			defer under.Done()
			h.ServeHTTP(w, r)
		}()
		<-w.writing
		held = append(held, w)
	}
	for _, path := range []string{"/v1/policy", "/v1/evidence/k7f-2mq"} {
		if got := code("GET", path, ""); got != 429 {
			t.Errorf("a third, %s: status %d", path, got)
		}
	}
	if got := code("GET", "/v1/sessions", ""); got != 200 { // all else goes on
		t.Errorf("a small answer meanwhile: status %d", got)
	}
	close(held[0].take)
	close(held[1].take)
	under.Wait()
	for range 5 { // and what is over is over
		if got := code("GET", "/v1/policy", ""); got != 200 {
			t.Errorf("afterwards: status %d", got)
		}
	}
	if held[0].Code != 200 || !strings.Contains(held[0].Body.String(), `"text"`) {
		t.Errorf("who was slow got status %d", held[0].Code)
	}
}
