//go:build linux

package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"breakglass/ca/catest"
	"breakglass/internal/softkey"
)

var shownSeed = regexp.MustCompile(`secret=([A-Z2-7]+)&`)

// TestTheOtherChannel is a person with a phone: the seed is shown on the terminal, a code and a touch enrol it, and a request that needs a
// code asks for one.
func TestTheOtherChannel(t *testing.T) {
	r := newRoadOf(t, catest.Config{Policy: strings.Replace(catest.Policy, "minutes = 30\nforwards", "minutes = 30\ntotp = true\nforwards", 1)}, softkey.Config{})
	r.enroll()
	r.wants(2, []string{"there is none", "breakglass totp enroll"}, "breakglass", "totp", "enroll")
	r.wants(10, []string{"totp_missing", "--totp CODE"}, "breakglass", "request", "--reason", reason, "root@web01")

	s := r.onTerminal("totp", "enroll", "my-phone")
	s.shows("Code that my-phone shows: ")
	m := shownSeed.FindStringSubmatch(s.text())
	if m == nil {
		t.Fatalf("no seed is shown:\n%s", s.text())
	}
	seed := m[1]
	now := func(off time.Duration) string {
		c, err := totp.GenerateCode(seed, time.Now().Add(off))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s.types(now(-30*time.Second) + "\n") // the one before counts too, and leaves two for what follows
	s.shows("PIN for security key yubi-desk: ")
	s.types(pin + "\n")
	if status := s.ends(); status != 0 || !strings.Contains(s.text(), "my-phone makes your codes from now on") {
		t.Fatalf("status %d\n%s", status, s.text())
	}

	s = r.onTerminal("request", "--reason", reason, "root@web01")
	s.shows("PIN for security key yubi-desk: ")
	s.types(pin + "\n")
	s.shows("Code that your other device shows: ")
	s.types(now(0) + "\n")
	s.shows("allowed by rule")
	if status := s.ends(); status != 0 {
		t.Errorf("status %d\n%s", status, s.text())
	}
	// A code on the command line, with a space in it; and used ones.
	code := now(30 * time.Second)
	r.ok("breakglass", "request", "--reason", reason, "--totp", code[:3]+" "+code[3:], "root@web01")
	r.wants(12, []string{"totp_used", "wait for the next code"}, "breakglass", "request", "--reason", reason, "--totp", code, "root@web01")
	r.wants(12, []string{"totp_wrong", "six digits"}, "breakglass", "request", "--reason", reason, "--totp", "12345", "root@web01")
}

func TestTheSeedAsAPicture(t *testing.T) {
	text, err := qrText("otpauth://totp/breakglass%20test:alice?secret=AAAA&issuer=breakglass%20test")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	for _, l := range lines {
		l = strings.TrimSuffix(strings.TrimPrefix(l, "\x1b[30;107m"), "\x1b[0m")
		if n := len([]rune(l)); n < 2*len(lines)-2 || n > 2*len(lines) {
			t.Errorf("%d modules wide, %d lines high", n, len(lines))
		}
		if strings.Trim(l, " █▀▄") != "" {
			t.Errorf("line %q", l)
		}
	}
	// The finder pattern of the upper left corner (ISO/IEC 18004, 6.3.3): seven dark modules.
	if !strings.HasPrefix(lines[1], "\x1b[30;107m  █▀▀▀▀▀█ ") {
		t.Errorf("no finder pattern: %q", lines[1])
	}
}
