package state

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var placeholder = regexp.MustCompile(`\$([0-9]+)`)

// outOfOrder gives the first placeholder that appears before a lower one did, or 0. SQLite binds $N by first appearance, PostgreSQL by
// number: only where both agree does a statement mean one thing (an UPDATE that disagreed matched no row, silently).
func outOfOrder(query string) int {
	seen := 0
	for _, m := range placeholder.FindAllStringSubmatch(query, -1) {
		n, _ := strconv.Atoi(m[1])
		switch {
		case n == seen+1:
			seen = n
		case n > seen:
			return n
		}
	}
	return 0
}

func TestPlaceholdersAreNumberedInOrderOfAppearance(t *testing.T) {
	for query, want := range map[string]int{"SELECT $1, $2": 0, "SELECT $2, $1": 2, "a = $1 AND (b = $1 OR c = $2)": 0, "SELECT $1, $3": 3} {
		if got := outOfOrder(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		a, err := parser.ParseFile(fset, f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(a, func(n ast.Node) bool {
			l, ok := n.(*ast.BasicLit)
			if !ok || l.Kind != token.STRING || !placeholder.MatchString(l.Value) {
				return true
			}
			queries++
			if bad := outOfOrder(l.Value); bad != 0 {
				t.Errorf("%s: $%d appears before a lower number", fset.Position(l.Pos()), bad)
			}
			return true
		})
	}
	if queries < 20 {
		t.Errorf("only %d statements found: does the lint still look at them?", queries)
	}
}
