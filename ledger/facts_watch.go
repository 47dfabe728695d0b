package ledger

// Who watches a session while it runs reads it: so that is an entry before the first byte is handed out, as reading is, and another when they are gone.

// SessionWatched says that somebody begins to watch a running session: appended before its envelope is handed out. The subject is the session's; who watches
// is the actor.
type SessionWatched struct {
	Watch string `json:"watch"` // names this watching
	Pass  string `json:"pass"`
	Why   string `json:"why"`
	// Observer says that whoever watches is one of those for whom the session's input waits (SessionOpened.WatchedBy).
	Observer bool `json:"observer,omitempty"`
}

// SessionUnwatched says that a watching is over; the actor is the watcher if they said so, else the CA.
type SessionUnwatched struct {
	Watch string `json:"watch"`
	How   string `json:"how"`
}

// How a watching ended.
const (
	WatchLeft    = "left"    // the watcher said so
	WatchLapsed  = "lapsed"  // nothing was heard of the watcher for some seconds
	WatchStopped = "stopped" // the CA was away: whether anybody watched meanwhile isn't known
)

func (*SessionWatched) EntryType() Type   { return "session.watched" }
func (*SessionUnwatched) EntryType() Type { return "session.unwatched" }
