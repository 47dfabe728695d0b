package statement

import (
	"crypto/sha256"
	"strings"
	"testing"
)

func TestImportTarget(t *testing.T) {
	a, b := Hash(sha256.Sum256([]byte("a"))), Hash(sha256.Sum256([]byte("b")))
	s := ImportTarget(a, b)
	if x, y, err := ParseImportTarget(s); err != nil || x != a || y != b {
		t.Error(x, y, err)
	}
	if err := CheckLine(s); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", a.String(), s + "0", strings.ToUpper(s), a.String() + "..", ".." + b.String(), a.String() + "." + b.String(), ImportTarget(a, a)} {
		if _, _, err := ParseImportTarget(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
