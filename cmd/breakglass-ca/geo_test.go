package main

import (
	"slices"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/policy/geo"
)

func TestGeoLines(t *testing.T) {
	day := 24 * time.Hour
	built := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what string
		list []ca.GeoStatus
		want []string
	}{
		{"no database", nil, []string{"no database: outside of trusted networks every place is unknown"}},
		{"one in date, one too old, one that never was", []ca.GeoStatus{
			{Status: geo.Status{Kind: geo.Country, Built: built}, Age: 5*day + time.Hour, Limit: 45 * day},
			{Status: geo.Status{Kind: geo.ASN, Built: built.AddDate(0, 0, -60)}, Age: 65 * day, Limit: 45 * day},
			{Status: geo.Status{Kind: geo.Anonymous, Fault: "it is damaged"}, Limit: 45 * day},
		}, []string{"country: of 2026-11-20, 5 days old (at most 45)", "asn: of 2026-09-21, 65 days old (at most 45): too old, its answers are unknown",
			"anonymous: no database", "  it is damaged"}},
		{"no policy yet", []ca.GeoStatus{{Status: geo.Status{Kind: geo.Country, Built: built}, Age: day}}, []string{"country: of 2026-11-20, 1 day old"}},
	} {
		if got := geoLines(c.list); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
