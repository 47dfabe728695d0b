// Package bytesize reads and writes amounts of bytes as people do: a whole number and a unit of IEC 80000-13, "512 MiB".
package bytesize

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var units = []struct {
	name string
	size int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

// Parse reads a positive whole number with a unit, as in "512 MiB" or "4GiB"; ok is false for anything else, and for what no int64 holds.
func Parse(s string) (n int64, ok bool) {
	for _, u := range units {
		digits, has := strings.CutSuffix(s, u.name)
		if !has {
			continue
		}
		digits = strings.TrimSuffix(digits, " ")
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n <= 0 || digits[0] == '+' || n > math.MaxInt64/u.size {
			return 0, false
		}
		return n * u.size, true
	}
	return 0, false
}

// Text writes n in the largest unit that leaves no rest.
func Text(n int64) string {
	for i := len(units) - 1; i >= 0; i-- {
		if u := units[i]; n != 0 && n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
