package api

import (
	"time"

	"breakglass/internal/name"
)

// Watching a session while it runs takes a pass of one of its readers, never its own person's. POST /v1/transcripts/{session}/watch records who begins and why, and
// hands out the envelope; GET …/watch?id=&offset=&entry=&wait= gives the sealed stream as it grows, from an offset, and is the sign of life that keeps the watching
// alive; POST …/watch/end says that it is over.

// Codes of watching.
const (
	CodeOwnSession = "own_session" // 403: nobody is their own observer
	CodeWatchOver  = "watch_over"  // 410: that watching is over: nothing was heard of it for a while, or the CA was away
)

const (
	// WatchLease is how long a watching lasts without a sign of life: several polls, on a line that loses one.
	WatchLease = 5 * time.Second
	// MaxWatchWait is the longest that a poll holds the line.
	MaxWatchWait = 2 * time.Second
)

// WatchAsk begins a watching.
type WatchAsk struct {
	Why string `json:"why"`
}

// Watching was recorded, and holds all that it takes to read the stream.
type Watching struct {
	ID       string         `json:"id"`
	Session  name.SessionID `json:"session"`
	Opened   ProvenEntry    `json:"opened"` // session.opened: the stream's header is bound to it
	Envelope []byte         `json:"envelope"`
	// Observer says that input flows while this watching lasts (SessionOpened.WatchedBy).
	Observer bool `json:"observer,omitempty"`
}

// WatchNews is what came behind an offset, and the entries about the session behind an index: heads that its jump signed, its end, who watches.
type WatchNews struct {
	Offset  int64         `json:"offset"` // of Data
	Data    []byte        `json:"data,omitempty"`
	Entries []ProvenEntry `json:"entries,omitempty"` // each with its proof to Checkpoint
	Entry   int64         `json:"entry"`             // the last that was looked at
	// Checkpoint is there if Entries are.
	Checkpoint string `json:"checkpoint,omitempty"`
	// State is the session's: "open", "ended", "crashed". Whole says that Data reaches the end of a finished stream.
	State string `json:"state"`
	Whole bool   `json:"whole,omitempty"`
}

// WatchEnd says that a watching is over.
type WatchEnd struct {
	ID string `json:"id"`
}

// Watcher is somebody who watches now.
type Watcher struct {
	Person   name.Person `json:"person"`
	Since    time.Time   `json:"since"`
	Observer bool        `json:"observer,omitempty"`
}
