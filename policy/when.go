package policy

import (
	"time"

	"breakglass/internal/name"
)

// Window is an entry of [windows]: a span of time, in a zone.
type Window struct {
	Name name.Window
	Line int
}

// Roster is an entry of [oncall]: a file that says who is on call, and how old it may be.
type Roster struct {
	Name   name.Roster
	File   string        // relative to the CA's directory
	MaxAge time.Duration // an older one knows nobody
	Line   int
}

// Failure is an entry of [failures]: something that a request may declare to be down.
type Failure struct {
	Name name.Failure
	Why  string
	Line int
}
