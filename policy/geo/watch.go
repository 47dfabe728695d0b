package geo

import (
	"context"
	"time"
)

// PollEvery is how often Watch looks at the files. A database is replaced once a day at most, and a minute is below what anybody waits for after
// replacing one by hand. Notifications of the file system are not used: they are lost on network file systems, and where a directory is a link.
const PollEvery = time.Minute

// Watch takes files that have changed, until ctx ends. What it takes and refuses is told, once each.
func (d *DB) Watch(ctx context.Context, every time.Duration, taken func(Kind), refused func(error)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		kinds, err := d.Poll()
		for _, k := range kinds {
			taken(k)
		}
		if err != nil {
			refused(err)
		}
	}
}
