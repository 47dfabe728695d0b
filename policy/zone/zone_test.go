package zone_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/policy/zone"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func TestLoad(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"Europe/Berlin", "14:00 CEST"}, {"America/New_York", "08:00 EDT"}, {"Asia/Kolkata", "17:30 IST"}, {"UTC", "12:00 UTC"},
		{"Local", ""}, {"europe/berlin", ""}, {"Europe", ""}, {"Europe/", ""}, {"", ""}, {"../zoneinfo/UTC", ""}, {"right/Europe/Berlin", ""},
	} {
		z, err := zone.Load(c.name)
		if c.want == "" {
			if !errors.Is(err, zone.ErrUnknown) {
				t.Errorf("%q: %v, %v", c.name, z, err)
			}
			continue
		}
		if err != nil || z.String() != c.name || noon.In(z).Format("15:04 MST") != c.want {
			t.Errorf("%q: %v, %v, %v", c.name, z, noon.In(z), err)
		}
	}
}

// TestTheMachinesZonesAreNotAsked: who may write the machine's zones, or the service's environment, can't move a window.
func TestTheMachinesZonesAreNotAsked(t *testing.T) {
	if os.Getenv("ZONE_TEST") != "" {
		z, err := zone.Load("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("it is " + noon.In(z).Format("15:04") + "\n")
		return
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "Europe"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The least file there is: UTC.
	utc := "TZif2" + strings.Repeat("\x00", 15) + strings.Repeat("\x00", 16) + "\x00\x00\x00\x01\x00\x00\x00\x04"
	body := "\x00\x00\x00\x00\x00\x00UTC\x00"
	if err := os.WriteFile(filepath.Join(dir, "Europe", "Berlin"), []byte(utc+body+utc+body+"\nUTC0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestTheMachinesZonesAreNotAsked$")
	cmd.Env = append(os.Environ(), "ZONE_TEST=1", "ZONEINFO="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "it is 14:00") {
		t.Errorf("%s, %v", out, err)
	}
}
