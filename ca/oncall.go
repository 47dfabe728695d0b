package ca

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"breakglass/internal/name"
	"breakglass/policy"
	"breakglass/policy/oncall"
)

const (
	// onCallWait bounds what a decision waits for its on-call lists, all together: a file system that hangs makes them unknown and holds nobody
	// else up.
	onCallWait = 250 * time.Millisecond
	// racy is how new a file may be so that its size and time alone don't tell that it was not written again: clocks of file systems are coarse.
	racy = 2 * time.Second
)

// onCallLists holds the files of [oncall] as they were last read. A decision looks whether they have changed: no more than a stat.
type onCallLists struct {
	dir  string
	file func(path string, last *onCallFile) *onCallFile // readOnCall

	mu      sync.Mutex
	read    map[string]*onCallFile
	looking chan struct{} // closed when the look that is under way is over; nil: none is
	since   time.Time     // when it began
}

// onCallFile is one file as of one look.
type onCallFile struct {
	info  fs.FileInfo
	list  *oncall.List
	fault string // what is wrong with it; "" is nothing
	sure  bool   // it can't have been written since without its time telling
}

func newOnCallLists(dir string) *onCallLists {
	return &onCallLists{dir: dir, file: readOnCall, read: map[string]*onCallFile{}}
}

// facts are what the lists of the policy say of a person.
func (l *onCallLists) facts(p *policy.Policy, person name.Person, now time.Time) []policy.OnCall {
	rosters := p.RostersFor(person)
	files := l.look(rosters)
	var out []policy.OnCall
	for _, r := range rosters {
		f := policy.OnCall{List: r.Name}
		switch x := files[r.File]; {
		case x == nil:
			f.Doubt = "reading the list takes too long"
		case x.fault != "":
			f.Doubt = x.fault
		default:
			f.On, f.Written = x.list.On(person, now), x.info.ModTime().UTC()
		}
		out = append(out, f)
	}
	return out
}

// look gives the files as they are now. It gives none that it couldn't look at in time.
func (l *onCallLists) look(rosters []*policy.Roster) map[string]*onCallFile {
	if len(rosters) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), onCallWait)
	defer cancel()
	for {
		l.mu.Lock()
		under, hangs := l.looking, time.Since(l.since) > onCallWait
		if under == nil {
			break
		}
		l.mu.Unlock()
		if hangs {
			return nil
		}
		select { // another decision's look, which was perhaps begun before the file was written: wait, and look anew
		case <-under:
		case <-ctx.Done():
			return nil
		}
	}
	done := make(chan struct{})
	l.looking, l.since = done, time.Now()
	before := make(map[string]*onCallFile, len(rosters))
	for _, r := range rosters {
		before[r.File] = l.read[r.File]
	}
	l.mu.Unlock()
	var after map[string]*onCallFile // of the goroutine until done is closed
	go func() {
		files := make(map[string]*onCallFile, len(before))
		for file, last := range before {
			files[file] = l.file(filepath.Join(l.dir, filepath.FromSlash(file)), last)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for file, x := range files {
			l.read[file] = x
		}
		after, l.looking = files, nil
		close(done)
	}()
	select {
	case <-done:
		return after
	case <-ctx.Done():
		return nil
	}
}

// readOnCall reads a file, unless it is as last was.
func readOnCall(path string, last *onCallFile) *onCallFile {
	x := &onCallFile{}
	var err error
	if x.info, err = os.Stat(path); err != nil {
		return x.failed("there is no such file", err)
	}
	if last != nil && last.sure && os.SameFile(last.info, x.info) && last.info.ModTime().Equal(x.info.ModTime()) && last.info.Size() == x.info.Size() {
		return last
	}
	if !x.info.Mode().IsRegular() { // a pipe would be waited for
		return x.failed("", errors.New("it is no regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return x.failed("there is no such file", err)
	}
	defer f.Close()
	if x.info, err = f.Stat(); err != nil { // of what is read, not of what stood there before
		return x.failed("", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, oncall.MaxBytes+1))
	if err != nil {
		return x.failed("", err)
	}
	x.sure = time.Since(x.info.ModTime()) > racy
	if x.list, err = oncall.Parse(b); err != nil {
		x.fault = err.Error()
	}
	return x
}

// failed says what is wrong, without the path, which is no business of the people who read it; missing is for a file that isn't there.
func (x *onCallFile) failed(missing string, err error) *onCallFile {
	var at *fs.PathError
	switch {
	case missing != "" && errors.Is(err, fs.ErrNotExist):
		x.fault = missing
	case errors.As(err, &at):
		x.fault = fmt.Sprintf("it can't be read: %v", at.Err)
	default:
		x.fault = err.Error()
	}
	return x
}

// OnCallStatus is one on-call list's line.
type OnCallStatus struct {
	Name    name.Roster
	File    string
	Written time.Time // zero: unknown
	People  int       // on call now
	Fault   string    // why nobody is; "" is nothing
}

// status looks at every list of the policy.
func (l *onCallLists) status(p *policy.Policy, now time.Time) []OnCallStatus {
	rosters := p.AllRosters()
	files := l.look(rosters)
	var out []OnCallStatus
	for _, r := range rosters {
		s := OnCallStatus{Name: r.Name, File: r.File}
		switch x := files[r.File]; {
		case x == nil:
			s.Fault = "reading the list takes too long"
		default:
			if x.info != nil {
				s.Written = x.info.ModTime().UTC()
			}
			if s.Fault = x.fault; s.Fault == "" {
				s.Fault = r.Doubt(s.Written, now)
			}
			if s.Fault == "" {
				s.People = x.list.People(now)
			}
		}
		out = append(out, s)
	}
	return out
}
