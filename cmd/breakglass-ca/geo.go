package main

import (
	"fmt"
	"time"

	"breakglass/ca"
)

// geoJSON is one geo database.
type geoJSON struct {
	Kind      string    `json:"kind"`
	Path      string    `json:"path"`
	Type      string    `json:"type,omitempty"`
	Built     time.Time `json:"built,omitzero"`
	AgeDays   int       `json:"age_days"`
	LimitDays int       `json:"limit_days,omitempty"`
	Old       bool      `json:"old,omitempty"`
	Fault     string    `json:"fault,omitempty"`
}

func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

func geoOf(s *ca.Status) []geoJSON {
	var out []geoJSON
	for _, g := range s.Geo {
		j := geoJSON{Kind: string(g.Kind), Path: g.Path, Type: g.Type, AgeDays: days(g.Age), LimitDays: days(g.Limit), Old: g.Old(), Fault: g.Fault}
		if !g.Built.IsZero() {
			j.Built = g.Built.UTC()
		}
		out = append(out, j)
	}
	return out
}

// geoLines says of each database how old it is, and what that means.
func geoLines(list []ca.GeoStatus) []string {
	if len(list) == 0 {
		return []string{"no database: outside of trusted networks every place is unknown"}
	}
	var out []string
	for _, g := range list {
		s := fmt.Sprintf("%s: ", g.Kind)
		switch {
		case g.Built.IsZero():
			s += "no database"
		case g.Limit == 0:
			s += fmt.Sprintf("of %s, %s old", g.Built.UTC().Format(time.DateOnly), count(days(g.Age), "day"))
		default:
			s += fmt.Sprintf("of %s, %s old (at most %d)", g.Built.UTC().Format(time.DateOnly), count(days(g.Age), "day"), days(g.Limit))
		}
		if g.Old() {
			s += ": too old, its answers are unknown"
		}
		out = append(out, s)
		if g.Fault != "" {
			out = append(out, "  "+g.Fault)
		}
	}
	return out
}
