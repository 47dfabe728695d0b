package jump

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A host whose clock is off lets a session in within the slack, and no further; the policy gives a host more.
func TestClockOfAHost(t *testing.T) {
	for _, c := range []struct {
		what         string
		ahead, slack time.Duration
		in           bool
	}{
		{"a little ahead", 4 * time.Minute, 0, true},
		{"a little behind", -4 * time.Minute, 0, true},
		{"ahead", 6 * time.Minute, 0, false},
		{"behind", -6 * time.Minute, 0, false},
		{"ahead, as the policy says", 2 * time.Hour, 3 * time.Hour, true},
		{"behind, as the policy says", -2 * time.Hour, 3 * time.Hour, true},
		{"further than the policy says", 2 * time.Hour, time.Hour, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t)
			w.ca.hosts["web01"].ahead, w.ca.hosts["web01"].slack = c.ahead, c.slack
			out, err := exec.Command("ssh", append(w.config(w.grant()), "web01", "echo let in")...).CombinedOutput()
			if in := err == nil && strings.Contains(string(out), "let in"); in != c.in {
				t.Errorf("let in %v: %v\n%s", in, err, out)
			}
			if !c.in && !strings.Contains(string(out), "clock") {
				t.Errorf("nothing says that it may be the clock:\n%s", out)
			}
		})
	}
}

// A certificate that reaches further than the entry says the host's clock may be off is none that a jump uses.
func TestACertificateBeyondTheSlack(t *testing.T) {
	w := newWorld(t)
	w.ca.hosts["web01"].slack, w.ca.hosts["web01"].unsaid = time.Hour, true
	out, err := exec.Command("ssh", append(w.config(w.grant()), "web01", "echo let in")...).CombinedOutput()
	if err == nil || strings.Contains(string(out), "let in") {
		t.Errorf("used: %s", out)
	}
}
