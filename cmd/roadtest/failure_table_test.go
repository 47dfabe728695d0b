package roadtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// failureTable is what goes on and what is refused when something is down (the design's section 8): each row is exercised by these tests, with real processes
// stopped where the row is about one.
var failureTable = []struct {
	down, goesOn, refused string
	tests                 []string // DIR.Test
}{
	{"identity provider, chat, mail, internet", "everything", "nothing", []string{
		"cmd/roadtest.TestShellOnATerminal", "cmd/roadtest.TestScripts"}}, // nothing beyond loopback is there in any of them
	{"DNS", "everything that has an address", "hosts known by name only", []string{
		"ca.TestHostKnownByNameOnly", "ca.TestViaUnknownToDNS"}},
	{"geo database missing or old", "networks that the policy names; else an approval more", "country rules that can't be answered", []string{
		"ca.TestUnknownPlaceAsksAPerson", "policy.TestUnknownPlaceIsAsked", "policy/geo.TestAge", "policy/geo.TestEveryBadFile"}},
	{"transcript store", "running sessions; the journal drains later", "new sessions once the journal is at its limit", []string{
		"cmd/roadtest.TestABucketAsTheStore", "jump.TestTheStoreIsGoneForAWhile", "jump/ship.TestTheStoreComesBack", "jump.TestWhatPassedIsRecordedWhateverFails"}},
	{"witnesses", "everything, unwitnessed and cosigned later", "nothing", []string{
		"cmd/roadtest.TestWitnessesAreAway", "cmd/roadtest.TestStockWitnessAndChecker"}},
	{"CA process", "running sessions, blind, for the grace", "new grants and sessions", []string{
		"jump.TestASessionGoesOnWithoutTheCAForTheGrace", "jump.TestWithoutTheCANobodyGetsIn"}},
	{"CA machine, database, log", "succession", "all until then", []string{
		"ca.TestACAThatIsLostComesBack", "cmd/roadtest.TestSuccessionOnTheRoad"}},
	{"jump", "any other jump", "nothing", []string{"cmd/roadtest.TestTwoJumps"}},
	{"clock of a client", "everything, with a warning", "nothing", []string{"agent.TestAWrongClockIsSaidAndDecidesNothing"}},
	{"clock of the CA", "running sessions", "issuing, until the clock is accepted", []string{"ca.TestClockOfTheCA", "ca.TestJumpsKnowTheTime"}},
	{"clock of a host", "what is 5 minutes off, or the policy's clock_slack", "what is further off, with a hint", []string{
		"jump.TestClockOfAHost", "ca.TestClockSlackOfAHost"}},
	{"disk of the CA or the jump", "the reserve: room to say goodbye", "the rest, with a line that says so", []string{
		"ca/state.TestFullDiskRefusesAndRecovers", "jump/journal.TestFull", "jump.TestWhatPassedIsRecordedWhateverFails", "cmd/roadtest.TestABackupWithoutRoom"}},
}

// A row whose test was renamed or taken away is no row.
func TestEachRowOfTheFailureTableHasItsTests(t *testing.T) {
	found := map[string]map[string]bool{} // by directory
	for _, row := range failureTable {
		if len(row.tests) == 0 {
			t.Errorf("%s: no test", row.down)
		}
		for _, name := range row.tests {
			i := strings.LastIndex(name, ".")
			dir, fn := name[:i], name[i+1:]
			if found[dir] == nil {
				found[dir] = testsOf(t, filepath.Join("..", "..", filepath.FromSlash(dir)))
			}
			if !found[dir][fn] {
				t.Errorf("%s: there is no %s in %s", row.down, fn, dir)
			}
		}
	}
}

// testsOf names the test functions of a package.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, f.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}
