package jump

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/ledger"
)

// A session that was opened on one key and extended on another's touch ends with either: who holds a stolen key and a client key must not keep a
// session that outlives the key's revocation.
func TestARevokedKeyEndsWhatItExtended(t *testing.T) {
	t.Parallel()
	const opener, first, extender, other = "SHA256:opener", "SHA256:first", "SHA256:extender", "SHA256:other"
	for _, c := range []struct {
		what, revoked string
		ends          bool
	}{
		{"the key that the grant was asked for with", first, true},
		{"the key of the touch that the session was opened on", opener, true},
		{"the key that extended it since", extender, true},
		{"a key that has nothing to do with it", other, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t, func(w *world) {
				w.ca.change = func(o *ledger.SessionOpened) { o.Used.Touch.Key, o.Opener = opener, first }
			})
			g := w.grant()
			there := filepath.Join(t.TempDir(), "there")
			go func() {
				for _, err := os.Stat(there); err != nil; _, err = os.Stat(there) {
					time.Sleep(5 * time.Millisecond)
				}
				w.ca.say(t, ledger.Subject{Person: "alice", Request: g.request}, &ledger.GrantExtended{Request: "aaa-aaa", Rule: "home", Minutes: 60,
					Until: ledger.At(time.Now().Add(time.Hour)), Used: ledger.Used{Touch: ledger.Touch{Key: extender}}})
				w.ca.say(t, ledger.Subject{Person: "carol"}, &ledger.Revoked{What: ledger.RevokedKey, Target: c.revoked, Why: "stolen", How: ledger.RevokedByOrder})
			}()
			r := w.ssh(g, nil, "echo before; sleep 1; touch "+there+"; sleep 2; echo after")
			switch {
			case !c.ends && (r.code != 0 || r.stdout != "before\nafter\n"):
				t.Errorf("ended by what doesn't reach it: %+v", r)
			case c.ends && (r.code != 255 || r.stdout != "before\n" || !strings.Contains(r.stderr, "by carol: stolen")):
				t.Errorf("%+v", r)
			}
		})
	}
}
