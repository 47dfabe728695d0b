// Package zone knows the time zones of the IANA database as they were when this program was made.
//
// # Promise
//
// To the policy: a zone is what zoneinfo.zip in this directory says, wherever the program runs. time.LoadLocation would ask $ZONEINFO and the machine's own
// files first, and time/tzdata only where there are none: whoever may write those could move a window, and a decision made again elsewhere could come out
// otherwise.
//
// zoneinfo.zip is the Go distribution's lib/time/zoneinfo.zip; the data are in the public domain. To update it, copy that of a newer Go.
package zone

import (
	"archive/zip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

//go:embed zoneinfo.zip
var database string

// ErrUnknown says that there is no zone of that name.
var ErrUnknown = errors.New("unknown time zone")

// maxZone bounds a zone's data: the longest has below 4 KiB.
const maxZone = 64 << 10

// Load gives a zone by its name in the database, letter by letter. "Local" is none.
func Load(name string) (*time.Location, error) {
	z, err := zip.NewReader(strings.NewReader(database), int64(len(database)))
	if err != nil {
		return nil, fmt.Errorf("reading the time zones: %w", err)
	}
	for _, f := range z.File {
		if f.Name != name || strings.HasSuffix(name, "/") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("reading time zone %s: %w", name, err)
		}
		defer r.Close()
		b, err := io.ReadAll(io.LimitReader(r, maxZone))
		if err != nil {
			return nil, fmt.Errorf("reading time zone %s: %w", name, err)
		}
		return time.LoadLocationFromTZData(name, b)
	}
	return nil, fmt.Errorf("%w %q", ErrUnknown, name)
}
