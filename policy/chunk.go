package policy

import (
	"bytes"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// chunkTables is how many [hosts.NAME] and [people.NAME] go-toml gets at once. To find a table that is written twice it compares each with all
// before it: 20,000 hosts in one go take seconds, in chunks a fraction of one.
const chunkTables = 256

// sections notes the tables of a file as walk comes by them.
type sections struct {
	starts []int           // where each table's line starts
	entry  []bool          // it is a [hosts.NAME] or [people.NAME]
	seen   map[string]bool // those
	whole  bool            // the file can't be read in chunks: an entry stands twice, or is written another way
	tables int             // of entry, the true ones
}

func chunked(root string) bool { return root == hostsTable || root == "people" }

// note takes one expression of the syntax tree.
func (s *sections) note(src []byte, e *unstable.Node) {
	it := e.Key()
	if s.whole || !it.Next() {
		return
	}
	root := string(it.Node().Data)
	if e.Kind == unstable.KeyValue {
		if len(s.starts) == 0 && chunked(root) {
			s.whole = true // hosts.web.address = [..] at the top
		}
		return
	}
	offset := int(it.Node().Raw.Offset)
	s.starts = append(s.starts, bytes.LastIndexByte(src[:offset], '\n')+1)
	s.entry = append(s.entry, chunked(root))
	if !chunked(root) {
		return
	}
	if e.Kind != unstable.Table || !it.Next() {
		s.whole = true
		return
	}
	key := pathKey([]string{root, string(it.Node().Data)})
	if it.Next() || s.seen[key] {
		s.whole = true
		return
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.seen[key] = true
	s.tables++
}

// decode reads the file in chunks: all but the entries in one, and these a few at a time. Every entry is there once and is a table of its own, so
// nothing that go-toml could find wrong lies between chunks. false: read it in one piece, which says what is wrong and where.
func (s *sections) decode(src []byte, f *file) bool {
	if s.whole || s.tables <= chunkTables {
		return false
	}
	rest := append([]byte(nil), src[:s.starts[0]]...)
	var chunk []byte
	n := 0
	flush := func() bool {
		var part file
		if !strictly(chunk, &part) {
			return false
		}
		for k, v := range part.Hosts {
			f.Hosts[k] = v
		}
		for k, v := range part.People {
			f.People[k] = v
		}
		chunk, n = chunk[:0], 0
		return true
	}
	hosts, people := map[string]fileHost{}, map[string]filePerson{}
	f.Hosts, f.People = hosts, people
	for i, from := range s.starts {
		to := len(src)
		if i+1 < len(s.starts) {
			to = s.starts[i+1]
		}
		if !s.entry[i] {
			rest = append(rest, src[from:to]...)
			continue
		}
		if chunk = append(chunk, src[from:to]...); n+1 == chunkTables {
			if !flush() {
				return false
			}
			continue
		}
		n++
	}
	if !flush() || !strictly(rest, f) {
		return false
	}
	f.Hosts, f.People = hosts, people
	return true
}

func strictly(src []byte, f *file) bool {
	d := toml.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	return d.Decode(f) == nil
}
