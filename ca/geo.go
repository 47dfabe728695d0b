package ca

import (
	"context"
	"time"

	"breakglass/policy"
	"breakglass/policy/geo"
)

// GeoStatus is how a geo database does, and how old the policy lets it be.
type GeoStatus struct {
	geo.Status
	Age   time.Duration // 0: there is none in use
	Limit time.Duration // of the policy; 0: there is no policy yet
}

// Old tells whether its answers count for nothing any more.
func (s *GeoStatus) Old() bool { return s.Limit > 0 && s.Age > s.Limit }

func (c *CA) geoStatus(p *policy.Policy) []GeoStatus {
	var out []GeoStatus
	for _, s := range c.geo.Status() {
		g := GeoStatus{Status: s}
		if !s.Built.IsZero() {
			g.Age = c.now().Sub(s.Built)
		}
		if p != nil {
			g.Limit = p.Always.GeoMaxAge
		}
		out = append(out, g)
	}
	return out
}

// watchGeo takes databases that have been replaced.
func (c *CA) watchGeo(ctx context.Context) {
	c.geo.Watch(ctx, geo.PollEvery, func(k geo.Kind) {
		c.log.Info("a geo database was replaced, and is in use", "database", k)
	}, func(err error) {
		c.log.Error("a geo database can't be read: the last good one goes on", "error", err)
	})
}

// remindOfGeo says of each database that is too old, once a day: nobody notices that by themselves before they stand outside.
func (c *CA) remindOfGeo(ctx context.Context) {
	t := time.NewTicker(24 * time.Hour)
	defer t.Stop()
	for {
		for _, s := range c.geoStatus(c.policy.Load()) {
			if s.Old() {
				c.log.Error("a geo database is too old: what it answers is unknown, outside of trusted networks", "database", s.Kind, "built", s.Built.UTC().Format(time.DateOnly), "limit", s.Limit)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
