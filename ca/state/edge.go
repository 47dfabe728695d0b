package state

import (
	"maps"

	"golang.org/x/mod/sumdb/tlog"

	"breakglass/ledger"
)

// edge holds hashes of a tree by their position (tlog.StoredHashIndex), above all those of the whole subtrees at its right: all that
// the next entry and the next root are made from. They are in the database too; this spares a query each.
type edge map[int64]tlog.Hash

func (e edge) clone() edge { return maps.Clone(e) }

// trim keeps what the root of the tree of size size is made from.
func (e edge) trim(size int64) edge {
	keep := edge{}
	// The reader that only listens learns the positions from tlog itself.
	_, _ = ledger.Root(size, tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		for _, n := range at {
			if h, ok := e[n]; ok {
				keep[n] = h
			}
		}
		return make([]tlog.Hash, len(at)), nil
	}))
	return keep
}
