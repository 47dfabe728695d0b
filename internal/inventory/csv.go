package inventory

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"breakglass/internal/name"
)

// columns of a table; the first two must be there.
var columns = []string{"name", "address", "groups", "host_key", "host_ca"}

// CSV reads a table (RFC 4180) whose first line names its columns: name, address, groups, host_key, host_ca. Several addresses, groups and keys in one
// field are parted by ';'. An address without a port has 22.
func CSV(text string) (*List, error) {
	if !utf8.ValidString(text) { // no name of the policy's has such bytes, and its text could not hold them
		return nil, fmt.Errorf("%w: it is no UTF-8", ErrFormat)
	}
	r := csv.NewReader(strings.NewReader(text))
	r.TrimLeadingSpace = true
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	at := map[string]int{}
	for i, c := range header {
		c = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(c, "\ufeff")))
		if _, twice := at[c]; twice || !slices.Contains(columns, c) {
			return nil, fmt.Errorf("%w: column %q: the first line has each of %s at most once", ErrFormat, c, strings.Join(columns, ", "))
		}
		at[c] = i
	}
	for _, c := range columns[:2] {
		if _, ok := at[c]; !ok {
			return nil, fmt.Errorf("%w: the first line has no column %q: want %s", ErrFormat, c, strings.Join(columns, ","))
		}
	}
	l := &List{}
	seen := map[string]int{}
	for {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			var pe *csv.ParseError
			if errors.As(err, &pe) && errors.Is(err, csv.ErrFieldCount) {
				l.refuse(pe.Line, "", "look at the commas of the line", "it has %d fields, the first line %d", len(row), len(header))
				continue
			}
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		line, _ := r.FieldPos(0)
		field := func(c string) (out []string) {
			i, ok := at[c]
			if !ok {
				return nil
			}
			for _, s := range strings.Split(row[i], ";") {
				if s = strings.TrimSpace(s); s != "" {
					out = append(out, s)
				}
			}
			return out
		}
		h := Host{Name: strings.ToLower(strings.Join(field("name"), ";")), Line: line, Groups: field("groups")}
		if why := h.table(field); why != "" {
			l.refuse(line, h.Name, "mend the line", "%s", why)
			continue
		}
		if first, twice := seen[h.Name]; twice {
			l.refuse(line, h.Name, "write its keys into one line, parted by ;", "it stands in line %d already", first)
			continue
		}
		seen[h.Name] = line
		l.Hosts = append(l.Hosts, h)
	}
	l.sort()
	return l, nil
}

// table fills a host in from its row; a text says what is wrong with it.
func (h *Host) table(field func(string) []string) (why string) {
	if err := checkName(h.Name); err != nil {
		return err.Error()
	}
	for _, a := range field("address") {
		host, port := splitAddress(a)
		e, err := endpoint(host, port)
		if err != nil {
			return err.Error()
		}
		h.Address = append(h.Address, e)
	}
	h.Address = order(h.Address)
	for _, c := range []struct {
		column string
		into   *[]string
	}{{"host_key", &h.Keys}, {"host_ca", &h.CA}} {
		for _, k := range field(c.column) {
			f := strings.Fields(k)
			if len(f) < 2 {
				return c.column + ": want a public key line, type and key"
			}
			line, err := keyLine(f[0], f[1])
			if err != nil {
				return err.Error()
			}
			*c.into = appendNew(*c.into, line)
		}
	}
	return checkGroups(h.Groups)
}

func checkName(n string) error {
	_, err := name.ParseHost(n)
	return err
}

func checkGroups(list []string) string {
	for _, g := range list {
		if _, err := name.ParseGroup(g); err != nil {
			return err.Error()
		}
	}
	return ""
}

// splitAddress parts "10.0.0.5:22", "[fd00::5]:22", "10.0.0.5", "fd00::5" and "db.example.net".
func splitAddress(a string) (host, port string) {
	if i := strings.LastIndexByte(a, ':'); i >= 0 && (strings.Count(a, ":") == 1 || strings.HasPrefix(a, "[") && !strings.HasSuffix(a, "]")) {
		return a[:i], a[i+1:]
	}
	return a, ""
}
