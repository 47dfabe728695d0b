package ca_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMachine lets a small cast take random steps, legal and illegal, against a real CA: people ask, sign well and badly, approve, deny, override, extend,
// read, enrol, lose keys; operators revoke; jumps open and end sessions; the clock moves, also back; the CA is restarted and rebuilt. A model
// that shares no code with the CA says what each step must lead to, and after each step what must always be true is looked at (machine_model_test.go).
//
// A sequence follows from its seed. On a failure steps are dropped while it still fails, and what is left is printed. SEED=n runs one sequence
// again, N=n so many, STEPS=n so long.
func TestMachine(t *testing.T) {
	sequences, steps := number("N", machineSequences), number("STEPS", machineSteps)
	// The same sequences each time, so that nobody's change meets somebody else's find; SEED=new draws others, as make soak does.
	first, one := uint64(1), false
	if s := os.Getenv("SEED"); s == "new" {
		first = uint64(time.Now().UnixNano())
	} else if s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, one, sequences = n, true, 1
	}
	taken := map[string]int{}
	for i := range sequences {
		seed := first + uint64(i)
		for _, strict := range []bool{false, true} {
			list := draw(seed, steps)
			failure, w := play(t, list, strict)
			for k, n := range w.outcomes {
				taken[k] += n
			}
			if failure == "" {
				continue
			}
			t.Errorf("SEED=%d (strict: %v): %s", seed, strict, failure)
			list, failure = shrink(t, list, strict, failure)
			t.Errorf("it fails also with these %d steps alone: %s\n%s", len(list), failure, spell(list))
			return
		}
	}
	report := []string{}
	for _, k := range sorted(taken) {
		report = append(report, fmt.Sprintf("%s %d", k, taken[k]))
	}
	t.Logf("%d sequences of %d steps, seeds from %d: %s", 2*sequences, steps, first, strings.Join(report, ", "))
	if one || sequences*steps < machineSequences*machineSteps {
		return
	}
	// A machine that never gets anywhere would find nothing.
	for _, must := range []string{"request: allowed", "request: refused", "session: allowed", "session: refused", "approval: allowed", "approval: refused", "pass: allowed"} {
		if taken[must] == 0 {
			t.Errorf("no step came to %q", must)
		}
	}
}

const (
	// machineSequences and machineSteps are what an ordinary run takes: a few seconds.
	machineSequences = 3
	machineSteps     = 120
	// shrinkTime bounds the search for a shorter sequence that fails.
	shrinkTime = 60 * time.Second
)

func number(env string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func sorted(m map[string]int) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// A step is an operation and numbers from which it picks whom and what it is about, among what there is when its turn comes: so a step still
// means something when others before it are dropped.
type step struct {
	op int
	a  [6]int
}

func draw(seed uint64, n int) []step {
	r := rand.New(rand.NewPCG(seed, 0x6272656b67))
	total := 0
	for _, o := range operations() {
		total += o.weight
	}
	var out []step
	for range n {
		s, x := step{}, r.IntN(total)
		for i, o := range operations() {
			if x < o.weight {
				s.op = i
				break
			}
			x -= o.weight
		}
		for i := range s.a {
			s.a[i] = r.IntN(1 << 20)
		}
		out = append(out, s)
	}
	return out
}

func spell(list []step) string {
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintf(&b, "\t{%d, %v}, // %s\n", s.op, s.a, operations()[s.op].name)
	}
	return b.String()
}

// trial is a testing.TB that ends a sequence at its first failure, and not the test.
type trial struct {
	testing.TB
	failure string
}

type failed struct{}

func (t *trial) fail(text string) {
	if t.failure == "" {
		t.failure = text
	}
	panic(failed{})
}
func (t *trial) Helper()                   {}
func (t *trial) Error(a ...any)            { t.fail(fmt.Sprint(a...)) }
func (t *trial) Errorf(f string, a ...any) { t.fail(fmt.Sprintf(f, a...)) }
func (t *trial) Fatal(a ...any)            { t.fail(fmt.Sprint(a...)) }
func (t *trial) Fatalf(f string, a ...any) { t.fail(fmt.Sprintf(f, a...)) }
func (t *trial) FailNow()                  { t.fail("failed") }

// play takes the steps and gives the first failure.
func play(t *testing.T, list []step, strict bool) (failure string, w *world) {
	tb := &trial{TB: t}
	w = &world{outcomes: map[string]int{}}
	at := -1
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(failed); !ours {
				panic(p)
			}
			failure = tb.failure
			if at >= 0 {
				failure = fmt.Sprintf("step %d (%s): %s", at, w.doing, failure)
			}
		}
		w.close()
	}()
	w.open(tb, strict)
	for i, s := range list {
		at = i
		w.doing = operations()[s.op].name
		operations()[s.op].do(w, s.a)
		w.look()
	}
	w.doing = "the end"
	w.last()
	return "", w
}

// alike says whether two failures are of one sort: the same step, and the text up to where ids may begin.
func alike(a, b string) bool {
	part := func(s string) string {
		_, s, _ = strings.Cut(s, "(")
		doing, s, _ := strings.Cut(s, ")")
		return doing + s[:min(len(s), 14)]
	}
	return a != "" && part(a) == part(b)
}

// shrink drops steps, many at a time at first, while the rest still fails.
func shrink(t *testing.T, list []step, strict bool, failure string) ([]step, string) {
	end := time.Now().Add(shrinkTime)
	for size := len(list) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(list) && time.Now().Before(end); {
			less := slices.Concat(list[:from], list[from+size:])
			if f, _ := play(t, less, strict); alike(f, failure) {
				list, failure = less, f
			} else {
				from += size
			}
		}
	}
	return list, failure
}
