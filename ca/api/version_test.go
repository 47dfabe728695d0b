package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"breakglass/ca/api"
)

func TestTrimLeavesOutWhatCameLater(t *testing.T) {
	type inner struct {
		Old string `json:"old"`
		New string `json:"new,omitempty" api:"2"`
	}
	type answer struct {
		Old   string  `json:"old"`
		New   *inner  `json:"new,omitempty" api:"2"`
		One   inner   `json:"one"`
		Some  []inner `json:"some"`
		Some2 []*inner
		Any   any
	}
	v := &answer{"a", &inner{"b", "c"}, inner{"d", "e"}, []inner{{"f", ""}, {"g", "h"}}, []*inner{{"i", "j"}}, inner{"k", "l"}}
	before, _ := json.Marshal(v)
	got, err := json.Marshal(api.Trim(v, 1))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"old":"a","one":{"old":"d"},"some":[{"old":"f"},{"old":"g"}],"Some2":[{"old":"i"}],"Any":{"old":"k"}}`; string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if after, _ := json.Marshal(v); string(after) != string(before) {
		t.Errorf("it changed what it was given: %s", after)
	}
	if api.Trim(v, api.Version) != any(v) {
		t.Error("for a client of now it made a copy")
	}
	plain := &inner{"a", ""}
	if api.Trim(plain, 1) != any(plain) {
		t.Error("with nothing to leave out it made a copy")
	}
}

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]int{"": 1, "1": 1, "2": 2, "17": 17} {
		if n, err := api.ParseVersion(s); err != nil || n != want {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"0", "-1", "01", "1.0", "x", " 1", strings.Repeat("9", 30)} {
		if n, err := api.ParseVersion(s); err == nil {
			t.Errorf("%q is %d", s, n)
		}
	}
}
