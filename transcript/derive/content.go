package derive

import (
	"crypto/sha256"
	"hash"
	"slices"
)

// maxAhead bounds what is kept of a file whose pieces don't come in order. OpenSSH has 64 requests of 32 KiB under way.
const maxAhead = 16 << 20

// content puts a transfer together by offset.
type content struct {
	d     *deriver
	index int // in Report.Transfers
	sum   hash.Hash
	next  int64 // everything before was hashed
	ahead map[int64][]byte
	held  int
	lost  bool // the hash can't be known
}

// transfer begins one.
func (d *deriver) transfer(t Transfer) *content {
	t.Start, t.End, t.Path = d.now, d.now, clip(t.Path)
	d.r.Transfers = append(d.r.Transfers, t)
	return &content{d: d, index: len(d.r.Transfers) - 1, sum: sha256.New(), ahead: map[int64][]byte{}}
}

// put adds a piece.
func (c *content) put(off int64, b []byte) {
	t := &c.d.r.Transfers[c.index]
	t.End = c.d.now
	t.Bytes += int64(len(b))
	if c.d.o.Sink != nil && c.d.err == nil {
		c.d.err = c.d.o.Sink(c.index, off, b)
	}
	switch {
	case c.lost || len(b) == 0:
	case off < c.next || off > 1<<62:
		c.lose("was written over")
	case off > c.next:
		if c.ahead[off] != nil {
			c.lose("was written over")
			return
		}
		if c.held += len(b); c.held > maxAhead {
			c.lose("came too far out of order")
			return
		}
		c.ahead[off] = slices.Clone(b)
	default:
		c.hash(b)
		for {
			p := c.ahead[c.next]
			if p == nil {
				break
			}
			delete(c.ahead, c.next)
			c.held -= len(p)
			c.hash(p)
		}
	}
}

func (c *content) hash(b []byte) {
	c.sum.Write(b)
	c.next += int64(len(b))
}

func (c *content) lose(why string) {
	t := &c.d.r.Transfers[c.index]
	c.d.note(t.Channel, "%q %s: its hash isn't known", t.Path, why)
	c.lost, c.ahead = true, nil
}

// end finishes the transfer; finished says that its sender did.
func (c *content) end(finished bool) {
	t := &c.d.r.Transfers[c.index]
	if !c.lost && len(c.ahead) == 0 {
		copy(t.SHA256[:], c.sum.Sum(nil))
		t.Whole = finished
	}
}
