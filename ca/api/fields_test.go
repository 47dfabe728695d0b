package api_test

import (
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vN/fields.txt of this version, if there is none")

// fields lists the members of every type of this package as TYPE.MEMBER, those alone that came up to version.
func fields(t *testing.T, dir string, version int) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var out []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			typ, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := typ.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, m := range s.Fields.List {
				if m.Tag == nil {
					continue
				}
				text, err := strconv.Unquote(m.Tag.Value)
				if err != nil {
					t.Fatal(err)
				}
				tag := reflect.StructTag(text)
				name, opts, _ := strings.Cut(tag.Get("json"), ",")
				if since, err := strconv.Atoi(tag.Get("api")); err == nil && since > version {
					if !strings.Contains(opts, "omit") {
						t.Errorf("%s.%s came later, and an older client would be sent its zero: it wants omitempty or omitzero", typ.Name.Name, name)
					}
					continue
				}
				if name != "" && name != "-" {
					out = append(out, typ.Name.Name+"."+name)
				}
			}
			return true
		})
	}
	slices.Sort(out)
	return out
}

// What a client of version 1 is sent, and what a CA of version 1 is asked, has no member that version 1 didn't have: each side refuses what it doesn't know.
func TestNothingNewIsSaidToWhoIsOlder(t *testing.T) {
	golden := filepath.Join("testdata", "v1", "fields.txt")
	now := fields(t, ".", 1)
	b, err := os.ReadFile(golden)
	if errors.Is(err, os.ErrNotExist) && *update {
		b = []byte(strings.Join(now, "\n") + "\n")
		err = os.WriteFile(golden, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	had := strings.Fields(string(b))
	types := map[string]bool{}
	for _, f := range had {
		typ, _, _ := strings.Cut(f, ".")
		types[typ] = true
	}
	for _, f := range now {
		typ, _, _ := strings.Cut(f, ".")
		if types[typ] && !slices.Contains(had, f) { // a new type is of a new call
			t.Errorf("%s is new: tag it `api:%q` with omitempty, or a version before it can't read %s any more", f, "2", typ)
		}
	}
	for _, f := range had {
		if !slices.Contains(now, f) {
			t.Errorf("%s is gone: a client of version 1 may need it", f)
		}
	}
}
