package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshsig"
)

// checked is what can be said of an entry by itself, whatever stands before it: it is what takes long, and is done beside the audit.
type checked struct {
	e   *Entry
	err error // it is none of ours

	sig    *sshsig.Signature
	sigErr error // it has none that can be read
	bad    error // it isn't good under the key that it names, for the namespace that it names
}

func check(raw []byte) *checked {
	c := &checked{}
	if c.e, c.err = Decode(raw); c.err != nil {
		return c
	}
	// One spelling of every entry: what we write. Decode alone would take repeated fields, and two readers could then see two things.
	if again, err := Encode(c.e); err != nil || !bytes.Equal(again, raw) {
		c.err = errors.New("not written as this ledger writes")
		return c
	}
	if c.e.SSHSIG == "" {
		c.sigErr = sshsig.ErrMalformed
		return c
	}
	if c.sig, c.sigErr = sshsig.Parse([]byte(c.e.SSHSIG)); c.sigErr == nil {
		c.bad = c.sig.Verify(c.sig.PublicKey, c.sig.Namespace, []byte(c.e.Statement))
	}
	return c
}

// signer is the key that the entry's signature names.
func (a *Audit) signer() (ssh.PublicKey, error) {
	if a.checked.sigErr != nil {
		return nil, a.checked.sigErr
	}
	return a.checked.sig.PublicKey, nil
}

// signature is sshsig's Verify of the entry's statement, of which the arithmetic was done before.
func (a *Audit) signature(key ssh.PublicKey, namespace string) (*sshsig.Signature, error) {
	c := a.checked
	switch {
	case c.sigErr != nil:
		return nil, c.sigErr
	case c.sig.Namespace != namespace:
		return nil, fmt.Errorf("%w: %q, want %q", sshsig.ErrNamespace, c.sig.Namespace, namespace)
	case !sameKey(c.sig.PublicKey, key):
		return nil, sshsig.ErrKey
	case c.bad != nil:
		return nil, c.bad
	}
	return c.sig, nil
}

// checking reads entries and checks them by themselves, some ahead of the audit, on all cores.
type checking struct {
	jobs chan *checkJob // in order
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup
}

type checkJob struct {
	raw     []byte
	err     error // of reading
	checked chan *checked
}

func checkAhead(entries iter.Seq2[[]byte, error]) *checking {
	workers := runtime.GOMAXPROCS(0)
	c := &checking{jobs: make(chan *checkJob, 64*workers), done: make(chan struct{})}
	work := make(chan *checkJob, 64*workers)
	for range workers {
		c.wg.Go(func() {
			for j := range work {
				j.checked <- check(j.raw)
			}
		})
	}
	c.wg.Go(func() {
		defer close(c.jobs)
		defer close(work)
		for raw, err := range entries {
			j := &checkJob{raw: raw, err: err, checked: make(chan *checked, 1)}
			if err == nil && len(raw) <= MaxEntry {
				work <- j // workers always go on
			}
			select {
			case c.jobs <- j:
			case <-c.done:
				return
			}
			if err != nil {
				return
			}
		}
	})
	return c
}

// stop ends it, and returns when nothing of it runs.
func (c *checking) stop() {
	c.once.Do(func() { close(c.done) })
	c.wg.Wait()
}
