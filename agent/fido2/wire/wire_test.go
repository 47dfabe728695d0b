package wire

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	key := Key{CredentialID: []byte("id"), PublicKey: []byte("pub")}
	sign := Request{Version: 1, Op: OpSign, Application: "ssh:breakglass", Keys: []Key{key}, Data: []byte("x")}
	for _, c := range []struct {
		what string
		edit func(*Request)
		ok   bool
	}{
		{"as it should be", func(*Request) {}, true},
		{"a list needs nothing", func(r *Request) { *r = Request{Version: 1, Op: OpList} }, true},
		{"an enrolment needs no key", func(r *Request) { r.Op, r.Keys, r.User = OpEnroll, nil, "alice" }, true},
		{"an enrolment needs a user", func(r *Request) { r.Op, r.Keys = OpEnroll, nil }, false},
		{"a probe needs no public key", func(r *Request) { r.Op, r.Keys = OpProbe, []Key{{CredentialID: []byte("id")}} }, true},
		{"a signature needs the public key that checks it", func(r *Request) { r.Keys = []Key{{CredentialID: []byte("id")}} }, false},
		{"no application", func(r *Request) { r.Application = "" }, false},
		{"no keys", func(r *Request) { r.Keys = nil }, false},
		{"an empty credential id, on which the binding panics", func(r *Request) { r.Keys = []Key{{PublicKey: []byte("pub")}} }, false},
		{"no data", func(r *Request) { r.Data = nil }, false},
		{"a PIN that would end early in C", func(r *Request) { r.PIN = []byte("12\x0034") }, false},
		{"too many keys", func(r *Request) { r.Keys = make([]Key, MaxKeys+1) }, false},
		{"unknown operation", func(r *Request) { r.Op = "reset" }, false},
		{"a negative timeout", func(r *Request) { r.TimeoutMS = -1 }, false},
	} {
		r := sign
		c.edit(&r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRequest(b)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want ok=%v", c.what, err, c.ok)
		}
		if err == nil && !reflect.DeepEqual(*got, r) {
			t.Errorf("%s: came back as %+v", c.what, got)
		}
		if err != nil && !errors.Is(err, BadRequest.Err()) {
			t.Errorf("%s: %v is no bad request", c.what, err)
		}
	}
	for _, bad := range []string{"", "{}", `{"version":2,"op":"list"}`, `{"version":1,"op":"list","x":1}`, `{"version":1,"op":"list"} {}`, "[]"} {
		if _, err := ParseRequest([]byte(bad)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestErrorsCompareByCode(t *testing.T) {
	n := 7
	err := error(&Error{Code: PINInvalid, Retries: &n, Device: "/dev/hidraw0"})
	if !errors.Is(err, PINInvalid.Err()) || errors.Is(err, PINBlocked.Err()) {
		t.Error("errors.Is")
	}
	if got := err.Error(); got != "wrong PIN, 7 tries left (/dev/hidraw0)" {
		t.Errorf("text %q", got)
	}
	for c := range strings.FieldsSeq("no_device many_devices no_credential already_enrolled pin_required pin_invalid pin_blocked pin_auth_blocked pin_not_set uv_invalid uv_blocked no_touch cancelled timeout unplugged bad_answer unsupported not_allowed bad_request no_backend failed") {
		if text := Code(c).Err().Error(); text == c {
			t.Errorf("%s has no text for people", c)
		}
	}
}

// FuzzParse: nothing that either side can send crashes the other, and what passes says the same again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"op":"list"}`,
		`{"version":1,"op":"sign","application":"ssh:breakglass","keys":[{"credential_id":"aWQ=","public_key":"cA=="}],"data":"eA==","pin":"MTIz","uv":true,"timeout_ms":5}`,
		`{"event":{"event":"touch","device":{"path":"/dev/hidraw0"}}}`,
		`{"error":{"code":"pin_invalid","retries":7}}`,
		`{"result":{"signature":{"device":{"path":"x"},"credential_id":"aWQ=","ssh":"AA==","flags":5,"counter":9}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRequest(b); err == nil {
			again, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if r2, err := ParseRequest(again); err != nil || r2.Op != r.Op || len(r2.Keys) != len(r.Keys) {
				t.Fatalf("%s then %s: %v", b, again, err)
			}
		}
		if m, err := ParseMessage(b); err == nil && (m.Event != nil) == (m.Result != nil || m.Error != nil) {
			t.Fatalf("message of several kinds: %s", b)
		}
	})
}
