package statement

// OrderClockAccept is an operator's order that the CA's clock is right; its target is TargetClock.
const (
	OrderClockAccept = "clock-accept"
	TargetClock      = "clock"
)
