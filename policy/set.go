package policy

import (
	"cmp"
	"fmt"
	"path"
	"sort"
	"strings"

	"breakglass/internal/policytext"
)

// part is one file of the text that is compiled. Places (span) count from the start of the whole text; what a person is shown counts from the start
// of the part.
type part struct {
	name  string // in the set; of a text of one file empty
	line  int    // of the whole text, at which it begins
	start int    // the offset of that
	src   []byte
}

// splitParts gives the files of src. With a text that is no set and no policy either, there is nothing to go on.
func (c *faults) splitParts() bool {
	if !policytext.IsSet(string(c.src[:min(len(c.src), 100)])) {
		c.parts = []part{{line: 1, src: c.src}}
		return true
	}
	files, err := policytext.Split(string(c.src))
	c.parts = []part{{line: 1, src: c.src}}
	if err != nil {
		c.span(span{}, "", "%v", err)
		return false
	}
	c.parts = c.parts[:0]
	for _, f := range files {
		start := len(c.src)
		if f.Line <= len(c.lines) {
			start = c.lines[f.Line-1]
		}
		c.parts = append(c.parts, part{f.Name, f.Line, start, c.src[start : start+len(f.Text)]})
	}
	return true
}

// partAt gives the file in which an offset of the whole text lies.
func (c *faults) partAt(offset int) *part {
	i := sort.Search(len(c.parts), func(i int) bool { return c.parts[i].start > offset })
	return &c.parts[max(i-1, 0)]
}

// where tells where the key or table header of path stands, as a person is told.
func (c *faults) where(path ...string) (file string, line int) {
	at := c.ix.key(path).offset
	line, _ = c.lineAt(at)
	return c.partAt(at).name, line
}

// standsIn words such a place: "line 7", "line 7 of hosts/web.toml".
func standsIn(file string, line int) string {
	if file == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("line %d of %s", line, file)
}

// alien reports what may stand in the first file only, and a host that another file has. Whoever reads hosts/web.toml has to be able to rely on
// it: nothing in there changes a rule, a person or another file's hosts.
func (c *faults) alien(path []string, at span) {
	p := c.partAt(at.offset)
	if p == &c.parts[0] {
		return
	}
	switch {
	case len(path) == 1 && path[0] != hostsTable:
		c.span(at, fmt.Sprintf("move it to %s: beside it, files hold [hosts.NAME] alone", policytext.Main), "%q may not stand in %s", path[0], p.name)
	case len(path) == 2 && path[0] == hostsTable:
		if before, ok := c.ix.keys[pathKey(path)]; ok && before.offset < p.start {
			line, _ := c.lineAt(before.offset)
			c.span(at, "a host is described in one place: remove one of them", "host %q stands in %s already", path[1], standsIn(c.partAt(before.offset).name, line))
		}
	}
}

const hostsTable = "hosts"

// At names a place of the policy for a person: "policy.toml:7", "DIR/hosts/web.toml:7". shown is what the policy was read from, a file or, of
// a set, its directory; file is a file of the set, empty for the text as a whole or a policy of one file; line is 0 for the file as a whole.
func At(shown, file string, line int) string {
	if file != "" {
		shown = path.Join(shown, file)
	}
	if line > 0 {
		return fmt.Sprintf("%s:%d", shown, line)
	}
	return shown
}

// decodeParts reads every file and puts their hosts together; false if the meaning of one is not known well enough to go on.
func (c *compiler) decodeParts() (file, bool) {
	if !c.splitParts() {
		return file{}, false
	}
	var whole file
	ok := true
	for i := range c.parts {
		p := &c.parts[i]
		c.ix.start = p.start
		f, good := decode(p.src, &c.faults)
		if i == 0 {
			whole = f
		}
		ok = ok && good
		if i == 0 || !good {
			continue
		}
		if whole.Hosts == nil {
			whole.Hosts = map[string]fileHost{}
		}
		for n, h := range f.Hosts {
			if _, there := whole.Hosts[n]; !there {
				whole.Hosts[n] = h
			}
		}
	}
	return whole, ok
}

// inFiles says of findings that have a line but no file that they are about the first file, where all but hosts stand.
func (p *Policy) inFiles(found []Finding) {
	for i := range found {
		if found[i].File == "" && found[i].Line > 0 {
			found[i].File = p.main
		}
	}
}

// fileOrder sorts the first file before the others, and what is about none before it.
func (p *Policy) fileOrder(a, b string) int {
	rank := func(f string) int {
		switch f {
		case "":
			return 0
		case p.main:
			return 1
		}
		return 2
	}
	return cmp.Or(rank(a)-rank(b), strings.Compare(a, b))
}
