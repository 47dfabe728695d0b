package ship

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"breakglass/jump/journal"
	"breakglass/transcript"
)

// A stream as the store gets it isn't what the journal holds entry by entry: records that were folded are left out, and the chunk that holds them stands in
// their place. Which are, is said by the chunks themselves, durable in the journal (KindChunk) before any of their bytes leaves. So there is one stream, and whoever reads
// the journal, now or after a crash, finds the same.

// cover is what a chunk stands for.
type cover struct {
	from, to uint64 // the entries from … to-1: their frames, all of them records
	size     int64  // bytes of those frames
	at       uint64 // the entry that holds the chunk
}

// coverHead is what stands in front of the chunk's frame in its entry: from u64 | to u64 | size u64, big endian.
const coverHead = 3 * 8

var errCover = errors.New("not a chunk with what it stands for")

func (c cover) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, c.from)
	b = binary.BigEndian.AppendUint64(b, c.to)
	return binary.BigEndian.AppendUint64(b, uint64(c.size))
}

// parseCover reads a KindChunk entry. The frame is part of data.
func parseCover(n uint64, data []byte) (c cover, frame []byte, err error) {
	if len(data) < coverHead {
		return c, nil, fmt.Errorf("%w: %d bytes", errCover, len(data))
	}
	c = cover{from: binary.BigEndian.Uint64(data), to: binary.BigEndian.Uint64(data[8:]), size: int64(binary.BigEndian.Uint64(data[16:])), at: n}
	frame, rest, ok := transcript.SplitFrame(data[coverHead:])
	if !ok || len(rest) != 0 || transcript.FrameType(frame[4]) != transcript.TypeChunk {
		return c, nil, fmt.Errorf("%w: no chunk", errCover)
	}
	// Records only lie behind header and envelope, and a chunk behind what it holds.
	if c.from < 2 || c.from >= c.to || c.to > c.at || c.size <= 0 || c.size > transcript.MaxFold {
		return c, nil, fmt.Errorf("%w: entry %d for %d bytes in %d to %d", errCover, n, c.size, c.from, c.to)
	}
	return c, frame, nil
}

// part is the next frame of a stream.
type part struct {
	frame  []byte // whole, good until the next part is asked for
	entry  uint64 // where what it stands for begins, and
	next   uint64 // the entry behind it
	size   int64  // bytes of the journal's frames that it stands for
	record bool   // a record as it is
}

// walk gives a stream's frames from an entry on, each once, with chunks in the place of what they stand for. Entries that are no frames are shown to other, in
// their place, which may be nil.
func walk(j *journal.Journal, sid journal.SID, from uint64, plan []cover, buf []byte, other func(journal.Entry) error) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		for again := true; again; {
			again = false
			for e, err := range j.Tail(sid, from, buf) {
				if err != nil {
					yield(part{}, err)
					return
				}
				if e.Kind != KindFrame {
					if other != nil {
						if err := other(e); err != nil {
							yield(part{}, err)
							return
						}
					}
					from = e.N + 1
					continue
				}
				if i, ok := slices.BinarySearchFunc(plan, e.N, func(c cover, n uint64) int {
					switch {
					case c.to <= n:
						return -1
					case c.from > n:
						return 1
					}
					return 0
				}); ok {
					c := plan[i]
					frame, err := chunkOf(j, sid, c)
					if !yield(part{frame: frame, entry: c.from, next: c.to, size: c.size}, err) || err != nil {
						return
					}
					from, again = c.to, true
					break
				}
				record := len(e.Data) > 4 && transcript.FrameType(e.Data[4]) == transcript.TypeRecord
				if !yield(part{frame: e.Data, entry: e.N, next: e.N + 1, size: int64(len(e.Data)), record: record}, nil) {
					return
				}
				from = e.N + 1
			}
		}
	}
}

// chunkOf reads a chunk back.
func chunkOf(j *journal.Journal, sid journal.SID, want cover) ([]byte, error) {
	for e, err := range j.ReadFrom(sid, want.at) {
		if err != nil {
			return nil, err
		}
		if e.N != want.at || e.Kind != KindChunk {
			break
		}
		c, frame, err := parseCover(e.N, e.Data)
		if err != nil || c != want {
			return nil, fmt.Errorf("stream %v: entry %d: %w", sid, e.N, errors.Join(err, errCover))
		}
		return frame, nil
	}
	return nil, fmt.Errorf("stream %v: chunk %d is not in the journal", sid, want.at)
}
