package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	block = 512
	// maxMember is the largest size that ustar writes in 11 octal digits.
	maxMember = 1<<33 - 1
	// maxName is ustar's name field. Ours are under 30 bytes.
	maxName = 100
)

// ErrFormat is wrapped by every error for a file that is no bundle of format v1.
var ErrFormat = errors.New("not a bundle of format v1")

// ErrLength says that a stream had more or fewer bytes than the ledger says: what was written until then is no bundle.
var ErrLength = errors.New("not as long as the ledger says")

// header is the one spelling of a member's header (FORMAT.md).
func header(name string, size int64) (h [block]byte) {
	copy(h[0:100], name)
	copy(h[100:108], "0000444")
	copy(h[108:116], "0000000")
	copy(h[116:124], "0000000")
	copy(h[124:136], fmt.Sprintf("%011o", size))
	copy(h[136:148], "00000000000")
	copy(h[148:156], "        ")
	h[156] = '0'
	copy(h[257:265], "ustar\x0000")
	var sum int
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// writer writes members.
type writer struct{ w io.Writer }

func (w *writer) member(name string, size int64, r io.Reader) error {
	if name == "" || len(name) >= maxName || size < 0 || size > maxMember {
		return fmt.Errorf("writing %s: name or size of %d bytes", name, size)
	}
	h := header(name, size)
	if _, err := w.w.Write(h[:]); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	n, err := io.CopyN(w.w, r, size)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("writing %s: %w: %d bytes of %d", name, ErrLength, n, size)
	}
	if err == nil {
		var more [1]byte
		if k, _ := io.ReadFull(r, more[:]); k != 0 {
			err = fmt.Errorf("%w: more than %d bytes", ErrLength, size)
		}
	}
	if err == nil {
		_, err = w.w.Write(make([]byte, pad(size)))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func (w *writer) end() error {
	_, err := w.w.Write(make([]byte, 2*block))
	return err
}

func pad(size int64) int64 { return (block - size%block) % block }

// reader reads members, strictly.
type reader struct {
	r    io.Reader
	name string
	body io.LimitedReader
	pad  int64
}

// next gives the next member's name and size; io.EOF after the last. What was left unread of the member before is read over.
func (r *reader) next() (string, int64, error) {
	if r.name != "" {
		if _, err := io.Copy(io.Discard, &r.body); err != nil {
			return "", 0, fmt.Errorf("%s: %w", r.name, err)
		}
		if r.body.N != 0 {
			return "", 0, fmt.Errorf("%w: ends within %s", ErrFormat, r.name)
		}
		if err := r.zeros(r.pad); err != nil {
			return "", 0, fmt.Errorf("after %s: %w", r.name, err)
		}
	}
	var h [block]byte
	if err := r.full(h[:]); err != nil {
		return "", 0, err
	}
	if h == [block]byte{} {
		if err := r.zeros(block); err != nil {
			return "", 0, err
		}
		var more [1]byte
		if n, err := io.ReadFull(r.r, more[:]); n != 0 {
			return "", 0, fmt.Errorf("%w: something follows the end", ErrFormat)
		} else if err != io.EOF {
			return "", 0, err
		}
		return "", 0, io.EOF
	}
	name, _, _ := bytes.Cut(h[:maxName], []byte{0})
	size, err := strconv.ParseInt(string(h[124:135]), 8, 64)
	if err != nil || size < 0 || len(name) == 0 || len(name) >= maxName || header(string(name), size) != h {
		return "", 0, fmt.Errorf("%w: member header", ErrFormat)
	}
	r.name, r.body, r.pad = string(name), io.LimitedReader{R: r.r, N: size}, pad(size)
	return r.name, size, nil
}

// Read reads the member at hand; a member that is cut short is no end of file.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err == io.EOF && r.body.N > 0 {
		err = fmt.Errorf("%w: ends within %s", ErrFormat, r.name)
	}
	return n, err
}

func (r *reader) full(p []byte) error {
	if _, err := io.ReadFull(r.r, p); err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: ends too early", ErrFormat)
	} else if err != nil {
		return err
	}
	return nil
}

func (r *reader) zeros(n int64) error {
	p := make([]byte, n)
	if err := r.full(p); err != nil {
		return err
	}
	if len(bytes.Trim(p, "\x00")) != 0 {
		return fmt.Errorf("%w: bytes in the padding", ErrFormat)
	}
	return nil
}
