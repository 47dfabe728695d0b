// Package journal is a jump's write-ahead file: what a session did is durable here before it is passed on.
//
// Guarantees, to the jump:
//
//   - When Append returns nil, the entry survives a kill, a crash and a power cut, and Read gives it back byte for byte
//     and in order.
//   - An entry that wasn't acknowledged may be there or not after a crash; it is never there in part, and never after a
//     later one of its stream that is missing.
//   - A flush that fails is never tried again: the kernel may have marked the pages clean. The journal is dead from then
//     on, every waiting Append fails, and the jump must cut its sessions and open the journal anew.
//   - When it is full, Append says ErrFull before anything is taken. A reserve is kept for entries marked Last, so that
//     sessions can end properly.
//
// # Segments
//
// A journal is a directory of segment files, each filled with zeros beforehand, overwritten in place and used again when
// all its streams are forgotten. In power-cut simulations plain appends and fallocate lost acknowledged data (the size or
// extent update failed while fdatasync said 0); overwriting zero-filled files lost none of 440,000.
//
//	segment = header | entry* | end | old content
//	header  = magic "bgjrnl1\0" | journal id [16] | generation u64 | zero [24] | crc u32 | zero [4]       64 bytes
//	entry   = crc u32 | len u32 | generation u64 | seq u64 | n u64 | batch u64 | stream id [16] | kind u8 | zero [3] |
//	          left u32 | data (len bytes) | zeros to a multiple of 8                                     64 bytes and data
//
// All numbers are big endian; crc is CRC-32C of what follows it (in the header: of what goes before). Generations rise by one with each segment taken
// into use and are never used twice, so what is left of a segment's last life is never taken for an entry. seq counts the journal's entries, n those of its stream,
// batch the flushes, left how many entries follow in the same flush. Kind 0xff closes a segment.
//
// # Recovery
//
// Open reads all segments in the order of their generations. In the newest the entries may stop in the middle of the last
// batch: a torn tail, never acknowledged. An entry of a later batch beyond it, or an older segment that isn't closed,
// means that acknowledged data was damaged: that is reported, and what follows is still read. Open then closes the newest segment and goes on in
// another: a segment is never continued, so that nothing unacknowledged comes to life behind new entries. If none is free it makes one more, for what is in a full
// journal can leave it only when entries about it can be written.
//
// # Trimming
//
// A stream may be longer than the journal: what is safe elsewhere is trimmed from its beginning while it goes on (Trim), and the segments are used again. After a crash
// trimmed entries may come back, with all after them, so what was done with them must bear repeating. Whoever trims leaves an entry behind the trim that says what
// the trimmed part was, durable before it.
package journal

import (
	"errors"

	"breakglass/transcript"
)

// SID names a stream: a session, or the jump's own facts.
type SID = transcript.SID

// Kind says what an entry's data is; the journal doesn't look into it. 0xf0 and above are the journal's own.
type Kind byte

const (
	kindTrim Kind = 0xfe // data: u64, the entries of the stream below this number are forgotten
	kindEnd  Kind = 0xff // closes the segment
	kindOwn  Kind = 0xf0
)

// Limits.
const (
	// MaxEntry bounds an entry's data: a transcript frame, or an envelope.
	MaxEntry = transcript.MaxFrame + 4
	// DefaultSegmentSize and DefaultSegments make 128 MiB: at 64 MB/s two seconds of backlog, at a shell's pace a day.
	DefaultSegmentSize = 16 << 20
	DefaultSegments    = 8
	// minSegments: one in use, one to go on in, one for the reserve.
	minSegments = 3
	// maxBatch bounds one write and flush, so that a bulk transfer doesn't delay a keystroke by much: 1 MiB takes 5 ms
	// on a slow disk.
	maxBatch = 1 << 20
	// maxWaiting bounds what waits for a flush in memory; AppendAsync waits when it is reached.
	maxWaiting = 16 << 20
)

var (
	// ErrFull: no room. The session must be cut; its end may still be written with Last.
	ErrFull = errors.New("journal is full")
	// ErrFailed: a write or flush failed. Nothing more is acknowledged by this Journal.
	ErrFailed = errors.New("journal has failed")
	// ErrClosed: the Journal was closed.
	ErrClosed = errors.New("journal is closed")
	// ErrDamaged: acknowledged entries can't be read back.
	ErrDamaged = errors.New("journal is damaged")
	// ErrLocked: another process owns the journal.
	ErrLocked = errors.New("journal is in use by another process")
)

// Entry is what is appended and read.
type Entry struct {
	Stream SID
	Kind   Kind
	Data   []byte
	// Last lets the entry use the reserve: ends of sessions, goodbyes.
	Last bool
	// N is its number in its stream, from 0; set when it is read.
	N uint64
}

// File is one segment. Write and flush are apart so that tests can fail them, and drop what wasn't flushed.
type File interface {
	ReadAt(b []byte, off int64) (int, error)
	WriteAt(b []byte, off int64) (int, error)
	// Datasync returns when all that was written is durable.
	Datasync() error
	Size() (int64, error)
	Close() error
}

// FS is the directory of a journal.
type FS interface {
	// Lock makes this process the owner until Unlock, or fails with ErrLocked.
	Lock() error
	Unlock() error
	// Names lists the segments.
	Names() ([]string, error)
	Open(name string) (File, error)
	// Create makes a file of size zero bytes, written out, durable with its name.
	Create(name string, size int64) (File, error)
}
