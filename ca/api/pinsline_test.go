package api

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"breakglass/ledger"
)

func lineSite() ledger.Site {
	return ledger.Site{LedgerKey: "breakglass/test/demo/00c0ffee+deadbeef+AAAA", TLS: []string{strings.Repeat("ab", 32), strings.Repeat("cd", 32)},
		Addresses: []string{"198.51.100.1:8443", "[2001:db8::1]:443"}}
}

func TestPinsLine(t *testing.T) {
	l, err := Line(lineSite())
	if err != nil {
		t.Fatal(err)
	}
	s := l.String()
	golden := filepath.Join("testdata", "v1", "pinsline.txt")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if s != strings.TrimSpace(string(want)) {
		t.Errorf("the format changed; v1 is final\ngot:  %s\nwant: %s", s, want)
	}
	for what, typed := range map[string]string{
		"as printed":       s,
		"in capitals":      strings.ToUpper(s),
		"without dashes":   strings.ReplaceAll(s, "-", ""),
		"on several lines": strings.ReplaceAll(s, "-", "\r\n  "),
		"o and l":          strings.ReplaceAll(strings.ReplaceAll(s[8:], "0", "O"), "1", "l"),
	} {
		if what == "o and l" {
			typed = s[:8] + typed
		}
		got, err := ParsePinsLine(typed)
		if err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	if !l.Is(lineSite().LedgerKey) || l.Is(lineSite().LedgerKey+"x") {
		t.Error("another ledger key")
	}
	spki, _ := hex.DecodeString(strings.Repeat("ab", 32))
	if !l.Trusts([32]byte(spki)) {
		t.Error("the TLS key is not trusted")
	}
	spki[15]++
	if l.Trusts([32]byte(spki)) {
		t.Error("another TLS key is trusted")
	}
	// Each character that is mistyped is found.
	for i := len(linePrefix); i < len(s); i++ {
		if s[i] == '-' {
			continue
		}
		other := byte('2')
		if s[i] == '2' {
			other = '3'
		}
		if _, err := ParsePinsLine(s[:i] + string(other) + s[i+1:]); !errors.Is(err, ErrLine) {
			t.Errorf("character %d: %v", i, err)
		}
	}
	for _, bad := range []string{"", "bgpins1", "bgpins2-" + s[8:], s[:len(s)-6], s + "-00000", s + s, strings.Repeat("0", 2000), "bg1.abc", "bgpins1-üüüüü"} {
		if _, err := ParsePinsLine(bad); !errors.Is(err, ErrLine) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func FuzzPinsLine(f *testing.F) {
	l, err := Line(lineSite())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.String())
	f.Add("bgpins1-00000")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParsePinsLine(s)
		if err != nil {
			return
		}
		if again, err := ParsePinsLine(l.String()); err != nil || !reflect.DeepEqual(again, l) {
			t.Fatalf("read, and not again: %v", err)
		}
	})
}
