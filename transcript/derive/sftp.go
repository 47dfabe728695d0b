package derive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Packet types of SFTP version 3 (draft-ietf-secsh-filexfer-02 section 3), which is what OpenSSH speaks.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpRename        = 18
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

// Open flags (section 6.3).
const (
	fxfRead   = 1
	fxfWrite  = 2
	fxfAppend = 4
)

// Limits.
const (
	// maxPacket is four times OpenSSH's own limit of 256 KiB.
	maxPacket = 1 << 20
	// maxPending bounds the requests under way; their data stays in memory until the host has answered.
	maxPending      = 4096
	maxPendingBytes = 64 << 20
	maxHandles      = 4096
)

// statuses are the codes of SSH_FXP_STATUS (section 7).
var statuses = [...]string{"ok", "end of file", "no such file", "permission denied", "failure", "bad message", "no connection", "connection lost", "not supported"}

// sftp reads one SFTP session.
type sftp struct {
	d       *deriver
	ch      uint32
	in, out []byte // what is incomplete
	pending map[uint32]*pending
	bytes   int
	handles map[string]*handle
	order   []string // handles in order of opening
}

// pending is a request that the host hasn't answered.
type pending struct {
	typ    byte
	op     int // in Report.Ops, or -1
	path   string
	flags  uint32
	handle *handle
	name   string // of the handle
	off    uint64
	data   []byte
}

type handle struct {
	path     string
	append   bool
	dir      bool
	up, down *content
}

func newSFTP(d *deriver, ch uint32) *sftp {
	return &sftp{d: d, ch: ch, pending: map[uint32]*pending{}, handles: map[string]*handle{}}
}

var errSFTP = errors.New("malformed sftp packet")

// packets cuts whole packets off what has come and calls f with each.
func packets(have *[]byte, b []byte, f func(typ byte, w *wire) error) error {
	*have = append(*have, b...)
	p := *have
	for {
		w := wire{b: p}
		n := w.u32()
		if w.bad {
			break
		}
		if n < 1 || n > maxPacket {
			return fmt.Errorf("%w: length %d", errSFTP, n)
		}
		body := w.take(uint64(n))
		if w.bad {
			break
		}
		q := wire{b: body[1:]}
		if err := f(body[0], &q); err != nil {
			return err
		}
		if q.bad {
			return fmt.Errorf("%w: type %d", errSFTP, body[0])
		}
		p = w.b
	}
	*have = append((*have)[:0], p...)
	return nil
}

func (s *sftp) fromPerson(b []byte) error { return packets(&s.in, b, s.request) }
func (s *sftp) fromHost(b []byte) error   { return packets(&s.out, b, s.answer) }

func (s *sftp) request(typ byte, w *wire) error {
	if typ == fxpInit {
		if v := w.u32(); v < 3 {
			return fmt.Errorf("%w: version %d", errSFTP, v)
		}
		return nil
	}
	id := w.u32()
	p := &pending{typ: typ, op: -1}
	op := Op{Channel: s.ch}
	switch typ {
	case fxpOpen:
		p.path, p.flags = w.str(), w.u32()
		op.Name, op.Path = "open", p.path
		switch p.flags & (fxfRead | fxfWrite) {
		case fxfRead:
			op.Name = "open to read"
		case fxfWrite:
			op.Name = "open to write"
		case fxfRead | fxfWrite:
			op.Name = "open to read and write"
		}
	case fxpOpendir:
		p.path = w.str()
		op.Name, op.Path = "list directory", p.path
	case fxpClose, fxpRead, fxpWrite, fxpReaddir, fxpFstat, fxpFsetstat:
		p.name = w.str()
		p.handle = s.handles[p.name]
		switch typ {
		case fxpRead:
			p.off = w.u64()
			w.u32()
		case fxpWrite:
			p.off = w.u64()
			p.data = slices.Clone(w.bytes())
		case fxpFsetstat:
			op.Name, op.Target = "set attributes", attrs(w)
			if p.handle != nil {
				op.Path = p.handle.path
			}
		}
		if p.handle == nil && (typ == fxpRead || typ == fxpWrite) && !w.bad {
			s.d.note(s.ch, "read or write on a handle that the host didn't give")
		}
	case fxpSetstat, fxpMkdir:
		op.Path = w.str()
		op.Name = map[byte]string{fxpSetstat: "set attributes", fxpMkdir: "make directory"}[typ]
		op.Target = attrs(w)
	case fxpRemove, fxpRmdir, fxpLstat, fxpStat, fxpReadlink, fxpRealpath:
		op.Path = w.str()
		op.Name = map[byte]string{fxpRemove: "remove", fxpRmdir: "remove directory", fxpLstat: "stat", fxpStat: "stat",
			fxpReadlink: "read link", fxpRealpath: "resolve"}[typ]
	case fxpRename:
		op.Name, op.Path, op.Target = "rename", w.str(), w.str()
	case fxpSymlink:
		// OpenSSH sends the target first, against the draft (its PROTOCOL file, section 4.1).
		op.Name, op.Target, op.Path = "symlink", w.str(), w.str()
	case fxpExtended:
		ext := w.str()
		op.Name = ext
		switch ext {
		case "posix-rename@openssh.com":
			op.Name, op.Path, op.Target = "rename", w.str(), w.str()
		case "hardlink@openssh.com":
			op.Name, op.Path, op.Target = "hard link", w.str(), w.str()
		case "statvfs@openssh.com":
			op.Path = w.str()
		case "lsetstat@openssh.com":
			op.Name, op.Path = "set attributes", w.str()
			op.Target = attrs(w)
		case "copy-data":
			from, _, _, to, at := w.str(), w.u64(), w.u64(), w.str(), w.u64()
			op.Path, op.Target = s.pathOf(from), s.pathOf(to)
			if h := s.handles[to]; h != nil && at == 0 {
				s.upload(h).lose("was copied on the host")
			}
		}
	default:
		return fmt.Errorf("%w: type %d from the person", errSFTP, typ)
	}
	if w.bad {
		return nil // packets says so
	}
	if s.pending[id] != nil {
		return fmt.Errorf("%w: request %d twice", errSFTP, id)
	}
	if s.bytes += len(p.data); len(s.pending) >= maxPending || s.bytes > maxPendingBytes {
		return fmt.Errorf("more than %d sftp requests without an answer", len(s.pending))
	}
	if op.Name != "" {
		op.Result = "no answer"
		p.op = s.d.op(op)
	}
	s.pending[id] = p
	return nil
}

func (s *sftp) pathOf(name string) string {
	if h := s.handles[name]; h != nil {
		return h.path
	}
	return ""
}

func (s *sftp) answer(typ byte, w *wire) error {
	if typ == fxpVersion {
		w.u32()
		return nil
	}
	id := w.u32()
	if w.bad {
		return nil
	}
	p := s.pending[id]
	if p == nil {
		return fmt.Errorf("%w: answer to request %d, which wasn't asked", errSFTP, id)
	}
	delete(s.pending, id)
	s.bytes -= len(p.data)
	switch typ {
	case fxpStatus:
		code := w.u32()
		if w.bad {
			return nil
		}
		result := fmt.Sprintf("status %d", code)
		if code < uint32(len(statuses)) {
			result = statuses[code]
		}
		s.d.result(p.op, result)
		switch {
		case p.typ == fxpWrite && code == 0 && p.handle != nil:
			s.write(p)
		case p.typ == fxpClose:
			s.close(p.name)
		}
	case fxpHandle:
		name := w.str()
		if w.bad || p.typ != fxpOpen && p.typ != fxpOpendir {
			return fmt.Errorf("%w: handle for type %d", errSFTP, p.typ)
		}
		if s.handles[name] != nil || len(s.handles) >= maxHandles {
			return fmt.Errorf("%w: handle given twice, or too many", errSFTP)
		}
		h := &handle{path: p.path, dir: p.typ == fxpOpendir, append: p.flags&fxfAppend != 0}
		s.handles[name] = h
		s.order = append(s.order, name)
		// A file that is created or read empty is a transfer too.
		if !h.dir && p.flags&fxfWrite != 0 {
			s.upload(h)
		}
		if !h.dir && p.flags&(fxfWrite|fxfRead) == fxfRead {
			s.download(h)
		}
		s.d.result(p.op, "ok")
	case fxpData:
		b := w.bytes()
		if !w.bad && p.typ == fxpRead && p.handle != nil {
			s.download(p.handle).put(clampOffset(p.off), b)
		}
	case fxpName, fxpAttrs, fxpExtendedReply:
		s.d.result(p.op, "ok")
		w.b = nil
	default:
		return fmt.Errorf("%w: type %d from the host", errSFTP, typ)
	}
	return nil
}

// clampOffset: an offset beyond int64 is no file's; content takes it as out of order.
func clampOffset(off uint64) int64 { return int64(min(off, 1<<63-1)) }

func (s *sftp) upload(h *handle) *content {
	if h.up == nil {
		h.up = s.d.transfer(Transfer{Channel: s.ch, By: "sftp", Way: ToHost, Path: h.path})
	}
	return h.up
}

func (s *sftp) download(h *handle) *content {
	if h.down == nil {
		h.down = s.d.transfer(Transfer{Channel: s.ch, By: "sftp", Way: FromHost, Path: h.path})
	}
	return h.down
}

func (s *sftp) write(p *pending) {
	c := s.upload(p.handle)
	if p.handle.append && !c.lost {
		c.lose("was appended to")
	}
	c.put(clampOffset(p.off), p.data)
}

func (s *sftp) close(name string) {
	h := s.handles[name]
	if h == nil {
		return
	}
	delete(s.handles, name)
	s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == name })
	h.end(true)
}

func (h *handle) end(finished bool) {
	for _, c := range []*content{h.up, h.down} {
		if c != nil {
			c.end(finished)
		}
	}
}

func (s *sftp) finish() {
	for _, n := range s.order {
		s.handles[n].end(false)
	}
}

// attrs shows the attributes that a request sets (section 5).
func attrs(w *wire) string {
	flags := w.u32()
	var out []string
	if flags&1 != 0 {
		out = append(out, fmt.Sprintf("size %d", w.u64()))
	}
	if flags&2 != 0 {
		out = append(out, fmt.Sprintf("owner %d:%d", w.u32(), w.u32()))
	}
	if flags&4 != 0 {
		out = append(out, fmt.Sprintf("mode %04o", w.u32()&0o7777))
	}
	if flags&8 != 0 {
		out = append(out, fmt.Sprintf("times %d,%d", w.u32(), w.u32()))
	}
	return strings.Join(out, ", ")
}
