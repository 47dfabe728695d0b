package ledger

import (
	"fmt"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

// The ledger as others read it: C2SP tlog-tiles. Hash tiles hold hashes alone and are public; entry bundles hold what people said, and are for those who may
// read the ledger.

// BundleEntries is how many entries a whole bundle holds, and how many hashes a whole tile.
const BundleEntries = torchwood.TileWidth

// Tile is a tile of hashes, or of entries where its level is below zero.
type Tile = tlog.Tile

// ParseTilePath reads a path of tlog-tiles, as in "tile/0/x001/067" or "tile/entries/000.p/5", in its one spelling.
func ParseTilePath(path string) (Tile, error) {
	t, err := torchwood.ParseTilePath(path)
	if err != nil {
		return Tile{}, fmt.Errorf("tile %.80q: %w", path, err)
	}
	if torchwood.TilePath(t) != path {
		return Tile{}, fmt.Errorf("tile %.80q: not in the form of tlog-tiles", path)
	}
	return t, nil
}

// TilePath is ParseTilePath's inverse.
func TilePath(t Tile) string { return torchwood.TilePath(t) }

// Bundle names the entry bundle n of a tree of size size: whole, or as wide as the tree has it. ok is false if the tree has none.
func Bundle(n, size int64) (t Tile, ok bool) {
	w := min(size-n*BundleEntries, BundleEntries)
	return Tile{H: torchwood.TileHeight, L: -1, N: n, W: int(w)}, n >= 0 && w > 0
}

// InTree says whether a tree of size size has the tile, whole or in part as it says.
func InTree(t Tile, size int64) bool {
	if t.N < 0 || t.W < 1 || t.W > BundleEntries || t.L > 7 {
		return false
	}
	shift := uint(max(t.L, 0) * torchwood.TileHeight)
	have := size >> shift // hashes, or entries, on its level
	return t.N < have/BundleEntries || t.N == have/BundleEntries && int64(t.W) <= have%BundleEntries
}

// HashTile gives the bytes of a tile of hashes.
func HashTile(t Tile, r tlog.HashReader) ([]byte, error) {
	b, err := tlog.ReadTileData(t, r)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", TilePath(t), err)
	}
	return b, nil
}

// AppendBundle adds an entry to a bundle's bytes: its length in 16 bits, then itself.
func AppendBundle(b, entry []byte) ([]byte, error) {
	if len(entry) > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrEntry, len(entry), MaxEntry)
	}
	return torchwood.AppendTileEntry(b, entry)
}

// SplitBundle gives the entries of a bundle, which must be n and nothing else. They are parts of b.
func SplitBundle(b []byte, n int) ([][]byte, error) {
	var out [][]byte
	for len(b) > 0 {
		e, rest, err := torchwood.ReadTileEntry(b)
		if err != nil {
			return nil, fmt.Errorf("entry bundle: %w", err)
		}
		out, b = append(out, e), rest
	}
	if len(out) != n {
		return nil, fmt.Errorf("entry bundle of %d entries, want %d", len(out), n)
	}
	return out, nil
}

// Tiles names all tiles of a tree of size size: the newest of each level in part, where it isn't whole.
func Tiles(size int64) (out []Tile) {
	for l := -1; l < 8; l++ {
		have := size >> uint(max(l, 0)*torchwood.TileHeight)
		if have == 0 {
			break
		}
		for n := int64(0); n*BundleEntries < have; n++ {
			out = append(out, Tile{H: torchwood.TileHeight, L: l, N: n, W: int(min(BundleEntries, have-n*BundleEntries))})
		}
	}
	return out
}
