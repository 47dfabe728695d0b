package api

// Codes of a clock that is wrong. None is the person's fault; each text names both clocks.
const (
	CodeClock     = "clock"      // 401: the caller's
	CodeClockBack = "clock_back" // 503: the CA's is before its newest entry
	CodeClockOff  = "clock_off"  // 503: the CA's differs from what the jumps agree on
)
