package policy

import "breakglass/internal/forward"

// Forward is one port or socket forward, as package forward writes it.
type Forward = forward.Forward

// ErrForward is what every error of ParseForward wraps.
var ErrForward = forward.ErrInvalid

// ParseForward reads a Forward's text.
func ParseForward(s string) (Forward, error) { return forward.Parse(s) }
