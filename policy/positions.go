package policy

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// span is a place in the file.
type span struct{ offset, length int }

// index knows where each key and each value of the file stands. A path is the keys from the root; elements of
// arrays go by their decimal number.
type index struct {
	keys, values map[string]span
	start        int // of the file that is walked, in the whole text
}

// newIndex is for a text of so many bytes. A host of three keys is some 180 of them: with room from the start a large policy's maps need not grow
// time and again, which took a sixth of loading it.
func newIndex(size int) *index {
	return &index{keys: make(map[string]span, size/32), values: make(map[string]span, size/48)}
}

// at is where a piece of the file that is walked stands in the whole text.
func (ix *index) at(r unstable.Range) span { return span{ix.start + int(r.Offset), int(r.Length)} }

// maxDepth is more than any path of the format has (rule.0.who.0).
const maxDepth = 8

func pathKey(path []string) string { return strings.Join(path, "\x00") }

// has tells whether the file says anything under path.
func (ix *index) has(path ...string) bool {
	var room [128]byte // a key that isn't kept needs no string of its own
	key := room[:0]
	for i, k := range path {
		if i > 0 {
			key = append(key, 0)
		}
		key = append(key, k...)
	}
	_, ok := ix.keys[string(key)]
	return ok
}

// value is where the value of path stands, else its key, else that of what is around it.
func (ix *index) value(path []string) span {
	if s, ok := ix.values[pathKey(path)]; ok {
		return s
	}
	return ix.key(path)
}

// key is where the key or table header of path stands, else that of what is around it.
func (ix *index) key(path []string) span {
	for n := len(path); n > 0; n-- {
		if s, ok := ix.keys[pathKey(path[:n])]; ok {
			return s
		}
	}
	return span{}
}

// walk reads the file's syntax tree once, notes where everything stands and reports each key that the file type
// doesn't have. It is stricter than go-toml's own check, which is a second net: go-toml matches keys without regard to
// case, so that `Who` further down would silently replace `who`.
func walk(src []byte, c *faults, sections *sections) error {
	ix := c.ix
	root := reflect.TypeFor[file]()
	var table []string
	tableType, known := root, true
	arrays := map[string]int{}

	var p unstable.Parser
	p.Reset(src)
	for p.NextExpression() {
		e := p.Expression()
		sections.note(src, e)
		if it := e.Key(); it.Next() {
			c.roomFor(ix.at(it.Node().Raw))
		}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, tableType, known = nil, root, true
			it := e.Key()
			for it.Next() {
				k := it.Node()
				if len(table) >= maxDepth {
					c.tooDeep(ix.at(k.Raw), table)
				}
				table = append(table, string(k.Data))
				at := ix.at(k.Raw)
				if known {
					tableType, known = ix.descend(c, tableType, table, at)
				}
				if _, ok := ix.keys[pathKey(table)]; !ok || it.IsLast() {
					ix.keys[pathKey(table)] = at
				}
				if it.IsLast() && e.Kind == unstable.ArrayTable {
					n := arrays[pathKey(table)]
					if n == maxTables {
						c.stop(at, "", "more than %d [[%s]]", maxTables, pathKey(table))
					}
					arrays[pathKey(table)] = n + 1
					table = append(table, strconv.Itoa(n))
					ix.keys[pathKey(table)] = at
					if known && tableType.Kind() == reflect.Slice {
						tableType = tableType.Elem()
					}
				} else if n := arrays[pathKey(table)]; n > 0 {
					table = append(table, strconv.Itoa(n-1)) // [rule.x] below the last [[rule]]
					if known && tableType.Kind() == reflect.Slice {
						tableType = tableType.Elem()
					}
				}
			}
		case unstable.KeyValue:
			ix.pair(c, e, table, tableType, known)
		}
	}
	return p.Error()
}

// pair notes one `key = value` below the table of the given path and type.
func (ix *index) pair(c *faults, e *unstable.Node, table []string, t reflect.Type, known bool) {
	path := append([]string(nil), table...)
	it := e.Key()
	for it.Next() {
		k := it.Node()
		if len(path) >= maxDepth {
			c.tooDeep(ix.at(k.Raw), path)
		}
		path = append(path, string(k.Data))
		at := ix.at(k.Raw)
		if known {
			t, known = ix.descend(c, t, path, at)
		}
		ix.keys[pathKey(path)] = at
	}
	ix.val(c, e.Value(), path, t, known)
}

// val notes a value and everything in it, and reports each that is not of its key's type.
func (ix *index) val(c *faults, v *unstable.Node, path []string, t reflect.Type, known bool) {
	want := reflect.Invalid
	if known {
		want = t.Kind()
	}
	if v.Kind != unstable.Array && v.Kind != unstable.InlineTable {
		ix.values[pathKey(path)] = ix.at(v.Raw)
	}
	if known && !fits(v.Kind, want) {
		name := path[len(path)-1]
		if _, err := strconv.Atoi(name); err == nil && len(path) > 1 {
			name = path[len(path)-2]
		}
		c.at(path, "write it like "+typeExample[want], "%s wants %s, not %s", name, typeWord[want], kindWord[v.Kind])
		known = false
	}
	if len(path) >= maxDepth {
		return
	}
	it := v.Children()
	switch v.Kind {
	case unstable.Array:
		if known {
			t = t.Elem()
		}
		for n := 0; it.Next(); n++ {
			c.roomFor(ix.key(path))
			element := append(append([]string(nil), path...), strconv.Itoa(n))
			ix.keys[pathKey(element)] = ix.key(path)
			ix.val(c, it.Node(), element, t, known)
			if s, ok := ix.values[pathKey(element)]; ok {
				ix.keys[pathKey(element)] = s
			}
		}
	case unstable.InlineTable:
		for it.Next() {
			c.roomFor(ix.key(path))
			ix.pair(c, it.Node(), path, t, known)
		}
	}
}

func fits(k unstable.Kind, want reflect.Kind) bool {
	switch k {
	case unstable.Array:
		return want == reflect.Slice
	case unstable.InlineTable:
		return want == reflect.Struct || want == reflect.Map
	case unstable.String:
		return want == reflect.String
	case unstable.Integer:
		return want == reflect.Int
	case unstable.Bool:
		return want == reflect.Bool
	}
	return false
}

var (
	typeWord    = map[reflect.Kind]string{reflect.Slice: "a list", reflect.Struct: "a table", reflect.Map: "a table", reflect.String: "a string", reflect.Int: "a whole number", reflect.Bool: "true or false"}
	typeExample = map[reflect.Kind]string{reflect.Slice: `["..."]`, reflect.Struct: "[table]", reflect.Map: "[table.NAME]", reflect.String: `"..."`, reflect.Int: "30", reflect.Bool: "true"}
	kindWord    = map[unstable.Kind]string{unstable.Array: "a list", unstable.InlineTable: "a table", unstable.String: "a string", unstable.Integer: "a number", unstable.Float: "a broken number", unstable.Bool: "true or false",
		unstable.LocalDate: "a date", unstable.LocalTime: "a time", unstable.LocalDateTime: "a date", unstable.DateTime: "a date"}
)

// descend goes from a type to what the last key of path means in it.
func (ix *index) descend(c *faults, t reflect.Type, path []string, at span) (reflect.Type, bool) {
	key := path[len(path)-1]
	switch t.Kind() {
	case reflect.Map:
		c.alien(path, at)
		return t.Elem(), true
	case reflect.Struct:
		var names []string
		for i := range t.NumField() {
			tag := t.Field(i).Tag.Get("toml")
			if tag == key {
				c.alien(path, at)
				return t.Field(i).Type, true
			}
			names = append(names, tag)
		}
		where := "here"
		if n := len(path) - 1; n > 0 {
			where = "in [" + strings.Join(path[:n], ".") + "]"
			if _, err := strconv.Atoi(path[1]); err == nil {
				where = "in [[" + path[0] + "]]"
			}
		}
		hint := didYouMean(key, names)
		if hint == "" {
			hint = "known are " + strings.Join(names, ", ")
		}
		c.span(at, hint, "unknown key %q %s", key, where)
		return nil, false
	}
	return nil, false // a key below a plain value: the decoder says so
}

// decode fills the file type; false if the file's meaning is not known well enough to go on. What go-toml itself finds
// beyond walk (syntax, a key written twice) is one fault, the first.
func decode(src []byte, c *faults) (file, bool) {
	var f file
	var tables sections
	if err := walk(src, c, &tables); err != nil {
		c.toml(src, toml.Unmarshal(src, &f), err)
		return f, false
	}
	found := len(c.list)
	if found == 0 && tables.decode(src, &f) {
		return f, true
	}
	f = file{}
	d := toml.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	err := d.Decode(&f)
	var strict *toml.StrictMissingError
	switch {
	case err == nil:
		return f, true
	case errors.As(err, &strict):
		if found > 0 {
			return f, true // walk has reported them, with suggestions; the rest of the file is decoded
		}
		for i := range strict.Errors {
			line, column := strict.Errors[i].Position()
			c.span(c.spanOf(src, line, column), "", "unknown key %q", strings.Join(strict.Errors[i].Key(), "."))
		}
	case found == 0:
		c.toml(src, err, err)
	}
	return f, false
}

// toml reports what go-toml found; otherwise is for an error that carries no place.
func (c *faults) toml(src []byte, err, otherwise error) {
	var de *toml.DecodeError
	if errors.As(err, &de) {
		line, column := de.Position()
		c.span(c.spanOf(src, line, column), "", "%s", strings.TrimPrefix(de.Error(), "toml: "))
		return
	}
	if err == nil {
		err = otherwise
	}
	c.span(span{c.ix.start, 0}, "", "%s", fmt.Sprint(err))
}

// spanOf turns a line and a column of a file, in bytes and both from 1, into a place in the whole text.
func (c *faults) spanOf(src []byte, line, column int) span {
	offset := 0
	for ; line > 1 && offset < len(src); offset++ {
		if src[offset] == '\n' {
			line--
		}
	}
	return span{c.ix.start + min(offset+column-1, len(src)), 1}
}
