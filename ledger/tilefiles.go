package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
)

// ErrTile is wrapped by what is wrong with a file of a ledger that is kept as tiles; the path is in the text.
var ErrTile = errors.New("not the ledger's tile")

// maxTileFile bounds what is read of one: a whole bundle of the largest entries.
const maxTileFile = BundleEntries * (MaxEntry + 2)

func readTile(dir fs.FS, t Tile) ([]byte, error) {
	path := TilePath(t)
	f, err := dir.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrTile, path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTileFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrTile, path, err)
	}
	if len(b) > maxTileFile {
		return nil, fmt.Errorf("%w: %s: more than %d bytes", ErrTile, path, maxTileFile)
	}
	return b, nil
}

// TileEntries gives the first size entries of a ledger that is kept as tiles (C2SP tlog-tiles), from its bundles, in order. They are held against nothing: that is the
// business of whoever has the checkpoint.
func TileEntries(dir fs.FS, size int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for n := int64(0); n*BundleEntries < size; n++ {
			t, _ := Bundle(n, size)
			b, err := readTile(dir, t)
			var es [][]byte
			if err == nil {
				if es, err = SplitBundle(b, t.W); err != nil {
					err = fmt.Errorf("%w: %s: %w", ErrTile, TilePath(t), err)
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, e := range es {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// CheckTiles holds each tile of hashes in dir against the tree, whose size the tiles are of, and gives an error for each that isn't it: whoever proves
// something from those tiles would be told something else.
func CheckTiles(dir fs.FS, tree *Memory) (faults []error) {
	for _, t := range Tiles(tree.Size()) {
		if t.L < 0 {
			continue // an entry that differs is another root
		}
		want, err := HashTile(t, tree)
		var have []byte
		if err == nil {
			have, err = readTile(dir, t)
		}
		switch {
		case err != nil:
			faults = append(faults, err)
		case !bytes.Equal(want, have):
			faults = append(faults, fmt.Errorf("%w: %s has other hashes than the entries", ErrTile, TilePath(t)))
		}
	}
	return faults
}
