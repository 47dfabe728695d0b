package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
)

// tileDir writes a ledger as tiles.
func tileDir(t testing.TB, l *ledgertest.Log) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{"checkpoint": {Data: []byte(l.Checkpoint())}}
	for _, tile := range ledger.Tiles(l.Tree.Size()) {
		var b []byte
		var err error
		if tile.L >= 0 {
			b, err = ledger.HashTile(tile, l.Tree)
		} else {
			for _, e := range l.Entries[tile.N*ledger.BundleEntries:][:tile.W] {
				b, err = ledger.AppendBundle(b, e)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		dir[ledger.TilePath(tile)] = &fstest.MapFile{Data: b}
	}
	return dir
}

// checkDir is what an auditor does with a directory of tiles: the entries make the root that is signed, and the hashes are theirs.
func checkDir(dir fs.FS, vkey string) error {
	note, err := fs.ReadFile(dir, "checkpoint")
	if err != nil {
		return err
	}
	head, err := ledger.OpenCheckpoint(string(note), vkey)
	if err != nil {
		return err
	}
	var tree ledger.Memory
	for e, err := range ledger.TileEntries(dir, head.Size) {
		if err == nil {
			err = tree.Append(e)
		}
		if err != nil {
			return err
		}
	}
	if got, err := tree.Checkpoint(head.Size); err != nil || got != head.Pin() {
		return errors.Join(err, errors.New("the entries have another root"))
	}
	return errors.Join(ledger.CheckTiles(dir, &tree)...)
}

// Every bit of the checkpoint's text and of its signature, bits of every byte of the tiles, and every file that is cut, gone, doubled or another's is found.
func TestTilesMangled(t *testing.T) {
	l := tell(t).Log
	for i := len(l.Entries); i < 2*ledger.BundleEntries+44; i++ {
		l.Append(&ledger.Entry{Actor: ledger.ActorCA, Facts: &ledger.CAStarted{Version: fmt.Sprint("v", i)}})
	}
	dir := tileDir(t, l)
	if err := checkDir(dir, l.VKey); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for n := range dir {
		names = append(names, n)
	}
	slices.Sort(names)
	if len(names) < 3+3+1+1 {
		t.Fatalf("only %q", names)
	}
	found := func(what string) {
		t.Helper()
		if checkDir(dir, l.VKey) == nil {
			t.Errorf("%s: not found", what)
		}
	}
	for _, n := range names {
		b := dir[n].Data
		for at := range b {
			switch {
			case n == "checkpoint": // all of it
			case strings.HasPrefix(n, "tile/entries/") && at%61 != 0 && at > 200, at%7 != 0 && at > 200:
				continue
			}
			for bit := range 8 {
				if n != "checkpoint" && bit != at%8 {
					continue
				}
				b[at] ^= 1 << bit
				found(fmt.Sprintf("%s, byte %d bit %d", n, at, bit))
				b[at] ^= 1 << bit
			}
		}
		for _, size := range []int{0, 1, len(b) / 2, len(b) - 1} {
			dir[n].Data = b[:size]
			found(fmt.Sprintf("%s cut at %d", n, size))
		}
		dir[n].Data = append(bytes.Clone(b), b[len(b)-1])
		found(n + " with a byte more")
		dir[n].Data = append(bytes.Clone(b), b...)
		found(n + " twice")
		dir[n].Data = b
		file := dir[n]
		delete(dir, n)
		found(n + " gone")
		for _, o := range names {
			if o == n || bytes.Equal(b, dir[o].Data) || path.Dir(o) != path.Dir(n) {
				continue
			}
			dir[n], dir[o] = dir[o], file
			found(n + " and " + o + " swapped")
			dir[o] = dir[n]
			delete(dir, n)
		}
		dir[n] = file
	}
	if err := checkDir(dir, l.VKey); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
}

func FuzzTileEntries(f *testing.F) {
	l := ledgertest.New(f)
	for n, file := range tileDir(f, l) {
		if strings.HasPrefix(n, "tile/entries/") {
			f.Add(file.Data)
		}
	}
	f.Add([]byte{0, 1, 'x', 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		tile, _ := ledger.Bundle(0, 2)
		dir := fstest.MapFS{ledger.TilePath(tile): {Data: b}}
		n := 0
		var again []byte
		for e, err := range ledger.TileEntries(dir, 2) {
			if err != nil {
				if !errors.Is(err, ledger.ErrTile) || n > 0 {
					t.Fatal(n, err)
				}
				return
			}
			n++
			if again, err = ledger.AppendBundle(again, e); err != nil {
				t.Fatal(err)
			}
		}
		if n != 2 || !bytes.Equal(again, b) {
			t.Fatalf("%d entries of %x", n, b)
		}
	})
}
