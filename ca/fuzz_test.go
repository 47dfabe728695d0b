package ca_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"breakglass/ca/catest"
)

// FuzzBodies sends any bytes to each door that reads some: nothing that a stranger sends is the CA's own fault, and nothing of it is recorded.
func FuzzBodies(f *testing.F) {
	clk := &clock{}
	c := catest.New(f, catest.Config{Now: clk.now})
	j := c.Join("jump-a")
	h := c.Handler()
	paths := []string{"/v1/requests", "/v1/requests/k7f-2mq/signature", "/v1/enrolments", "/v1/enrolments/x/key", "/v1/enrolments/x/signature", "/v1/passes",
		"/v1/passes/x/signature", "/v1/recipients", "/v1/recipients/x/signature", "/v1/recipients/rotation", "/v1/recipients/rotation/x/signature", "/v1/jumps", "/v1/sessions", "/v1/facts", "/v1/hostcerts",
		"/v1/transcripts/k7f-2mq.1/finish", "/v1/transcripts/k7f-2mq.1/envelope", "/v1/approvals", "/v1/approvals/x/signature"}
	fact := j.Fact("strangers.summed", `{}`, "")
	f.Add(uint8(11), []byte(`{"facts":[{"statement":"`+strings.ReplaceAll(fact.Statement, "\n", `\n`)+`","sshsig":"`+strings.ReplaceAll(fact.SSHSIG, "\n", `\n`)+`"}]}`))
	f.Add(uint8(10), []byte(`{"statement":"breakglass session v1\n","sshsig":"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"}`))
	f.Add(uint8(0), []byte(`{"person":"alice","login":"root","host":"web01","reason":"`+catest.Reason+`","client_key":"`+catest.Line(j.Key.PublicKey())+`"}`))
	f.Add(uint8(1), []byte(`{"sshsig":"x"}`))
	f.Add(uint8(2), []byte(`{"invite":"AAAA","key":"soft"}`))
	f.Add(uint8(7), []byte(`{"person":"bob","age":"age1x","sealed":"passphrase"}`))
	f.Add(uint8(9), []byte(`{"invite":"`+strings.Repeat("A", 43)+`","key":"","host_key":"","addresses":["127.0.0.1:1"],"source":["127.0.0.1"]}`))
	f.Add(uint8(15), []byte(`{"person":"bob","about":"request","of":"k7f-2mq","hash":"`+strings.Repeat("0", 64)+`","verdict":"approve","comment":"x"}`))
	before := len(c.Raw())
	f.Cleanup(func() {
		for _, e := range c.Entries()[before:] {
			if e.Type() != "strangers.summed" {
				f.Errorf("a stranger wrote %s into the ledger", e.Type())
			}
		}
	})
	f.Fuzz(func(t *testing.T, door uint8, body []byte) {
		clk.forward(time.Second) // or the limits would answer
		r := httptest.NewRequest(http.MethodPost, paths[int(door)%len(paths)], strings.NewReader(string(body)))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s: %d %s", r.URL.Path, w.Code, w.Body)
		}
		if w.Code >= 300 && !strings.Contains(w.Body.String(), `"code":`) {
			t.Errorf("%s: an error without a code: %s", r.URL.Path, w.Body)
		}
	})
}
