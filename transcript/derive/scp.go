package derive

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// maxLine bounds a control line of the scp protocol; OpenSSH's own buffer has 2 KiB.
const maxLine = 16 << 10

// scp reads the old copy protocol of rcp and `scp -O`. The sender says "C0644 size name", "D0755 0 name", "E" or "T…", each on a
// line; after C the content and a zero byte follow. The other side only acknowledges.
type scp struct {
	d      *deriver
	ch     uint32
	way    Way
	dir    []string
	line   []byte
	file   *content
	off    int64
	left   int64
	status bool // the byte after a content comes next
	op     int
}

func newSCP(d *deriver, ch uint32, way Way, target string) *scp {
	return &scp{d: d, ch: ch, way: way, dir: []string{target}}
}

func (s *scp) fromPerson(b []byte) error {
	if s.way == ToHost {
		return s.sender(b)
	}
	return nil
}

func (s *scp) fromHost(b []byte) error {
	if s.way == FromHost {
		return s.sender(b)
	}
	return nil
}

var errSCP = errors.New("malformed scp message")

func (s *scp) sender(b []byte) error {
	for len(b) > 0 {
		switch {
		case s.status:
			s.status = false
			s.file.end(b[0] == 0)
			s.file = nil
			if b[0] == 0 {
				s.d.result(s.op, "ok")
				b = b[1:]
			} // else an error's line begins
		case s.file != nil:
			n := min(int64(len(b)), s.left)
			s.file.put(s.off, b[:n])
			s.off, s.left = s.off+n, s.left-n
			b = b[n:]
			s.status = s.left == 0
		default:
			line, rest, ok := bytes.Cut(b, []byte("\n"))
			if len(s.line)+len(line) > maxLine {
				return fmt.Errorf("%w: line of more than %d bytes", errSCP, maxLine)
			}
			s.line = append(s.line, line...)
			if !ok {
				return nil
			}
			b = rest
			msg := string(s.line)
			s.line = s.line[:0]
			if err := s.message(msg); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scp) message(m string) error {
	if m == "" {
		return fmt.Errorf("%w: empty line", errSCP)
	}
	switch m[0] {
	case 'C', 'D':
		f := strings.SplitN(m[1:], " ", 3)
		if len(f) != 3 {
			return fmt.Errorf("%w: %.80q", errSCP, m)
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("%w: size in %.80q", errSCP, m)
		}
		// Without -r or -d the target itself is the file's name; that isn't known here, so both are given.
		name := path.Join(append(s.dir[1:len(s.dir):len(s.dir)], f[2])...)
		target := clip(s.dir[0])
		if m[0] == 'D' {
			if len(s.dir) > 1000 {
				return fmt.Errorf("%w: more than 1000 directories deep", errSCP)
			}
			s.d.op(Op{Channel: s.ch, Name: "scp directory " + clip(f[0]), Path: name, Target: target, Result: "ok"})
			s.dir = append(s.dir, f[2])
			return nil
		}
		s.op = s.d.op(Op{Channel: s.ch, Name: "scp file " + clip(f[0]), Path: name, Target: target, Result: "not finished"})
		s.file = s.d.transfer(Transfer{Channel: s.ch, By: "scp", Way: s.way, Path: name})
		s.off, s.left, s.status = 0, size, size == 0
	case 'E':
		if len(s.dir) < 2 {
			return fmt.Errorf("%w: end of a directory that didn't begin", errSCP)
		}
		s.dir = s.dir[:len(s.dir)-1]
	case 'T': // times
	case 1, 2:
		s.d.note(s.ch, "scp says %.200q", m[1:])
	default:
		return fmt.Errorf("%w: %.80q", errSCP, m)
	}
	return nil
}

func (s *scp) finish() {
	if s.file != nil {
		s.file.end(false)
	}
}
