// Package policyfiles reads a policy from where people keep it, and puts one there.
//
// # One rule
//
// A file is a policy of one file, whatever lies beside it. A directory is the policy that its files make up: policy.toml, then each hosts/*.toml in
// the order of their names, then imported.toml if it is there (the hosts that operators imported since the owners last signed). Nothing else in the
// directory counts. But in hosts/ whatever is neither a .toml file nor hidden nor an editor's backup is an error, and so is another .toml file
// beside policy.toml (but for the service's own config.toml): rules or hosts that somebody wrote would silently not be there.
package policyfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"breakglass/internal/durable"
	"breakglass/internal/policytext"
)

// Hosts is the directory of the files of hosts, in a policy's directory.
const Hosts = "hosts"

// ErrTooLong is what Read's error wraps for a policy that is longer than the limit.
var ErrTooLong = errors.New("the policy is too long")

// Read gives the text of the policy at path, a file or a directory, of at most limit bytes.
func Read(path string, limit int) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return readFile(path, limit)
	}
	names := []string{policytext.Main}
	if err := noStrays(path); err != nil {
		return nil, err
	}
	more, err := hostFiles(path)
	if err != nil {
		return nil, err
	}
	names = append(names, more...)
	if _, err := os.Stat(filepath.Join(path, policytext.Imported)); err == nil {
		names = append(names, policytext.Imported)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []policytext.File
	left := limit
	for _, n := range names {
		b, err := readFile(filepath.Join(path, filepath.FromSlash(n)), left)
		if err != nil {
			return nil, err
		}
		left -= len(b)
		files = append(files, policytext.File{Name: n, Text: string(b)})
	}
	text, err := policytext.Join(files)
	if err == nil && len(text) > limit {
		err = tooLong(limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return []byte(text), nil
}

// configFile may lie beside a policy: it is the CA's own.
const configFile = "config.toml"

// noStrays refuses files that look as if they were a part of the policy.
func noStrays(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		switch n := e.Name(); {
		case e.IsDir() || strings.HasPrefix(n, ".") || !strings.HasSuffix(n, ".toml"):
		case n == policytext.Main || n == policytext.Imported || n == configFile:
		default:
			return fmt.Errorf("%s is no part of the policy, and what stands in it would be missing: rules and people go into %s, hosts into %s/NAME.toml; or move it away",
				filepath.Join(dir, n), policytext.Main, Hosts)
		}
	}
	return nil
}

// hostFiles names the files of hosts of a policy's directory, sorted.
func hostFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(filepath.Join(dir, Hosts)) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range list {
		n := e.Name()
		switch {
		case strings.HasPrefix(n, "."), strings.HasSuffix(n, "~"), strings.HasPrefix(n, "#"):
		case e.IsDir() || !strings.HasSuffix(n, ".toml"):
			return nil, fmt.Errorf("%s is no .toml file: its hosts would be missing; rename it, or move it away", filepath.Join(dir, Hosts, n))
		default:
			out = append(out, Hosts+"/"+n)
		}
	}
	return out, nil
}

func readFile(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("reading %s: %w", path, tooLong(limit))
	}
	return b, nil
}

func tooLong(limit int) error { return fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit) }

// Write puts a policy's files into dir, so that Read gives the same text again. A policy of one file becomes policy.toml. What stood there under
// those names is replaced; a file of hosts that is no part of the policy is an error, since Read would add it.
func Write(dir, text string) error {
	files, err := policytext.Split(text)
	if err != nil {
		return err
	}
	mine := map[string]bool{}
	for _, f := range files {
		if d := filepath.Dir(f.Name); f.Name != policytext.Main && f.Name != policytext.Imported && d != Hosts {
			return fmt.Errorf("%s stands in no directory that is read again: want %s/NAME.toml", f.Name, Hosts)
		}
		mine[f.Name] = true
	}
	there, err := hostFiles(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, policytext.Imported)); err == nil {
		there = append(there, policytext.Imported)
	}
	for _, n := range there {
		if !mine[n] {
			return fmt.Errorf("%s is no part of the policy: remove it, or choose another directory", filepath.Join(dir, filepath.FromSlash(n)))
		}
	}
	for _, f := range files {
		p := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := durable.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(p, []byte(f.Text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
