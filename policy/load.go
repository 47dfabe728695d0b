package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Load reads a policy and runs its own tests. The error is a *LoadError with every fault found, or a *TestError with
// every test that failed; with either there is no policy. src is one TOML file or a set of files (internal/policytext). filename is for the messages
// only, of a set the directory in which its files are: the caller reads them.
func Load(filename string, src []byte) (*Policy, error) {
	p, err := Parse(filename, src)
	if err != nil {
		return nil, err
	}
	var failed []TestResult
	for _, r := range Test(p) {
		if !r.OK() {
			failed = append(failed, r)
		}
	}
	if len(failed) > 0 {
		return nil, &TestError{File: filename, Failed: failed}
	}
	return p, nil
}

// Parse reads a policy without running its tests. It is for looking at a policy (test, explain, check), never for
// deciding by it.
func Parse(filename string, src []byte) (*Policy, error) {
	c := &compiler{faults: newFaults(src)}
	c.parts = []part{{line: 1, src: src}} // until they are split
	switch {
	case len(src) > MaxFileBytes:
		return nil, &LoadError{File: filename, Faults: []Fault{{Line: 1, Column: 1, Message: fmt.Sprintf("the file is longer than %d bytes", MaxFileBytes)}}}
	case bytes.IndexByte(src, 0) >= 0:
		// Paths are joined with NUL in the index; TOML forbids it anyway.
		c.span(span{bytes.IndexByte(src, 0), 1}, "", "a NUL byte")
		return nil, c.err(filename)
	}
	c.until(func() {
		f, ok := c.decodeParts()
		if !ok {
			return
		}
		sum := sha256.Sum256(src)
		c.p = &Policy{SHA256: hex.EncodeToString(sum[:]), Source: bytes.Clone(src), main: c.parts[0].name}
		c.compile(&f)
	})
	if err := c.err(filename); err != nil {
		return nil, err
	}
	return c.p, nil
}

// TestError says which of a policy's own tests failed.
type TestError struct {
	File   string
	Failed []TestResult
}

func (e *TestError) Error() string {
	var b strings.Builder
	for i, r := range e.Failed {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s: test %q failed: %s", At(e.File, r.File, r.Line), r.Name, strings.Join(r.Faults, "; "))
	}
	return b.String()
}
