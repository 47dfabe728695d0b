package main

import (
	"strings"
	"testing"

	"breakglass/internal/name"
	"breakglass/ledger"
)

func TestJumpsNamed(t *testing.T) {
	var jumps []ledger.SiteJump
	for _, n := range []string{"fra", "fra-1", "fra-2", "ams.1", "ams.2", "amsterdam"} {
		jumps = append(jumps, ledger.SiteJump{Name: name.Jump(n)})
	}
	for asked, want := range map[string]string{
		"":          "fra fra-1 fra-2 ams.1 ams.2 amsterdam",
		"fra":       "fra", // a whole name means one
		"fra-1":     "fra-1",
		"ams":       "ams.1 ams.2",
		"amsterdam": "amsterdam",
		"fr":        "",
		"fra-":      "",
		"FRA":       "",
		"*":         "",
	} {
		var got []string
		for _, j := range jumpsNamed(jumps, asked) {
			got = append(got, string(j.Name))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", asked, got, want)
		}
	}
}
