package journal

import "sort"

// A reader of one stream must not read whole segments to find what came since it last looked: with many sessions at once each would read what all
// of them wrote. So a span keeps where its entries lie, as runs: coarsely, for it is memory that a full journal holds much of.

// run is a part of a segment in which entries of one stream lie; others' may lie between them.
type run struct {
	from, to int64
	first    uint64 // n of its first entry
}

const (
	// runLength is how much is read again, at most, to find an entry in the middle.
	runLength = 64 << 10
	// runGap is how much of others' entries is read over: a read costs as much as copying that.
	runGap = 16 << 10
	// maxRuns bounds a span's runs: with more they become coarser. A segment of bulk has 256.
	maxRuns = 512
)

// place counts an entry at off, which takes size bytes, into the runs.
func (sp *span) place(n uint64, off, size int64) {
	if k := len(sp.runs); k > 0 {
		r := &sp.runs[k-1]
		if off+size-r.from <= runLength<<sp.coarse && off-r.to <= runGap<<sp.coarse {
			r.to = off + size
			return
		}
	}
	if len(sp.runs) == maxRuns {
		for i := range maxRuns / 2 {
			sp.runs[i] = run{sp.runs[2*i].from, sp.runs[2*i+1].to, sp.runs[2*i].first}
		}
		sp.runs = sp.runs[:maxRuns/2]
		sp.coarse++
	}
	sp.runs = append(sp.runs, run{off, off + size, n})
}

// extents are the parts of the segment in which the stream's entries from n on lie, of those parts that are readable.
func (s *segment) extents(sp *span, n uint64) []extent {
	runs := sp.runs[max(0, sort.Search(len(sp.runs), func(i int) bool { return sp.runs[i].first > n })-1):]
	var out []extent
	for _, x := range s.ranges {
		for _, r := range runs {
			from, to := max(x.from, r.from), min(x.to, r.to)
			if from >= to {
				continue
			}
			if k := len(out); k > 0 && out[k-1].to == from {
				out[k-1].to = to
				continue
			}
			out = append(out, extent{from, to})
		}
	}
	return out
}
