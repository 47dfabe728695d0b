// Package ship brings recordings from the jump's journal to the store, while their sessions run.
//
// Guarantees, to the reviewer:
//
//   - What is durable in the journal is in the store within a second, as long as the store takes it as fast as it is made; and when the store
//     was away, after it is back, from where the store says that it stopped, also after a restart.
//   - Nothing leaves the journal before the store said that it holds it durably, and before a mark in the journal says how far that is: frames, chain and
//     bytes. With the mark and what is still in the journal, a jump that comes back knows the head of the whole stream.
//   - While a stream grows, the jump signs heads of what the store holds of it (session.head), each behind the one before.
//   - A recording is given up to the store as whole only under the head that a signed fact names.
//
// To running sessions: the store slows nobody. Uploads run apart, a few at once, in turns of one piece, those of running sessions first; a session that is
// made faster than the store takes it waits only when the journal is half full, and only while the store takes anything at all (Pace).
//
// A session's stream in the journal is: the HEADER frame, the envelope, RECORD frames with marks of what was stored between them, an END frame if the session
// ended properly, and the number of the fact that told its end. Behind the records, and off the session's path, they are folded into compressed chunks
// (transcript.Folder), which take their place in what the store gets. A chunk is durable in the journal before any of it leaves, so after a crash, when its key is gone, the stream
// goes on as it was begun. What zstd can't shrink, and what is far behind, goes as it is.
package ship

import (
	"context"
	"encoding/binary"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/jump/journal"
	"breakglass/ledger"
)

// Kinds of a session's journal entries.
const (
	KindFrame    journal.Kind = 1 // a whole frame
	KindEnvelope journal.Kind = 2
	KindTold     journal.Kind = 3 // u64: the number of the fact that told the end
	KindShipped  journal.Kind = 4 // a Shipped: what the store holds
	KindChunk    journal.Kind = 5 // a chunk, with what it stands for: see cover
)

const (
	// piece is what one upload holds at most. The store flushes each piece: a large one costs it little more than a small one.
	piece = api.MaxPiece
	// window is what is read from the journal at once: a piece with its entries' headers, and the entry that goes beyond it.
	window = 2 << 20
	// little is a backlog for which a sixteenth of both does: a thousand sessions that type mustn't cost what a few that copy do.
	little = 32 << 10
	// callTimeout bounds one upload.
	callTimeout = 30 * time.Second
	// closePatience is how long a call that is under way may go on when its session's end is to be told.
	closePatience = 300 * time.Millisecond
	// gather is how long a little is kept back to be sent with what follows: each upload is a flush in the store.
	gather = 400 * time.Millisecond
	// enough goes at once.
	enough = 512 << 10
	// firstWait and maxWait are the pauses between attempts that failed.
	firstWait = 200 * time.Millisecond
	maxWait   = 10 * time.Second
	// workers bounds how many uploads run at once, so that sessions keep the line and the processors; maxEnded is how many of them may be of
	// sessions that are over.
	workers  = 8
	maxEnded = 3
	// headEvery is how often the jump signs a head while the stream grows. Entries are for ever: a session's share of them must not grow with
	// every screen that top draws, so after ten minutes the distance grows in proportion to the session's age (headShare).
	headEvery = 2 * time.Second
	headShare = 300
	// maxBehind: no heads are signed while more facts than that wait for the CA.
	maxBehind = 200
	// trimShare of the journal is what is trimmed at once: a mark and a trim are two flushes.
	trimShare        = 32
	minTrim, maxTrim = 64 << 10, 8 << 20
	// alive is how long the store may take nothing before nobody waits for it any more.
	alive = 10 * time.Second
)

// Store takes recordings. What it acknowledged is durable. A piece that lies below the store's size, with the same bytes, is no error.
type Store interface {
	TranscriptSize(ctx context.Context, s name.SessionID) (*api.Size, error)
	PutTranscript(ctx context.Context, s name.SessionID, offset int64, piece []byte) (*api.Size, error)
	PutEnvelope(ctx context.Context, s name.SessionID, envelope []byte) error
	FinishTranscript(ctx context.Context, s name.SessionID, ask *api.FinishAsk) error
}

// Facts is the jump's own book.
type Facts interface {
	// Append signs a fact and makes it durable.
	Append(f ledger.Facts, session name.SessionID, then func(number int64) error) (int64, error)
	// WaitAcked returns when the CA has a fact: only then does it take the head that the fact names.
	WaitAcked(ctx context.Context, number int64) error
	// Waiting is how many facts the CA doesn't have yet.
	Waiting() int64
}

// Mark is the data of a KindTold entry.
func Mark(fact int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(fact)) }
