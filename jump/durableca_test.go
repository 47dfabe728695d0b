package jump

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
)

// A jump that is killed has sent things away before: its CA, which dies with it in these tests, must still have them. It keeps facts and recordings in a
// directory; whoever opens that has what it acknowledged.

// keepIn has the CA keep what it is given in dir, and takes up what is there.
func (a *authority) keepIn(dir string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep = dir
	a.facts, a.signed = nil, nil
	clear(a.stored)
	clear(a.envelopes)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, "facts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(b)) {
		var s api.SignedStatement
		var f statement.Fact
		if err := errors.Join(json.Unmarshal([]byte(line), &s), statement.Parse([]byte(s.Statement), &f)); err != nil {
			return err
		}
		a.signed, a.facts = append(a.signed, s), append(a.facts, f)
	}
	es, err := os.ReadDir(dir)
	for _, e := range es {
		base, suffix, _ := strings.Cut(e.Name(), "_")
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		id := name.SessionID(strings.Replace(base, ".", "/", 1))
		switch suffix {
		case "stream":
			a.stored[id] = b
		case "envelope":
			a.envelopes[id] = b
		}
	}
	return err
}

// kept appends to a file of the directory, if there is one. Killed is not switched off: no flush.
func (a *authority) kept(file string, b []byte) error {
	if a.keep == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(a.keep, file), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
