package softkey

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// CTAPHID (CTAP 2.1 section 11.2).
const (
	reportLen    = 64
	initHeader   = 7
	contHeader   = 5
	maxMsgSize   = 1200 // what getInfo says; a longer message is refused
	broadcastCID = 0xffffffff
	keepalive    = 100 * time.Millisecond // section 11.2.9.2.5 wants one at least every 100 ms
	// writeTimeout bounds a write to a client that was killed and reads no more.
	writeTimeout = time.Second
)

const (
	hidPing      = 0x80 | 0x01
	hidInit      = 0x80 | 0x06
	hidWink      = 0x80 | 0x08
	hidCBOR      = 0x80 | 0x10
	hidCancel    = 0x80 | 0x11
	hidError     = 0x80 | 0x3f
	hidKeepalive = 0x80 | 0x3b
)

const (
	hidErrCommand = 0x01
	hidErrLength  = 0x03
	hidErrSeq     = 0x04
	hidErrBusy    = 0x06
	hidErrChannel = 0x0b
)

const (
	capWink = 0x01
	capCBOR = 0x04
	capNMSG = 0x08 // no U2F messages, so that libfido2 doesn't fall back to them
)

// device is the plug: the master side of the pseudo-terminal.
type device interface {
	io.ReadWriteCloser
	SetWriteDeadline(time.Time) error
	path() string
	flush() error // drops what the client has not read
}

// transport speaks CTAPHID for one authenticator.
type transport struct {
	auth *Authenticator
	dev  device

	wmu sync.Mutex // one message at a time goes out

	mu      sync.Mutex
	nextCID uint32
	msg     *message // being put together
	busy    *running // the command under way
	closed  bool

	wg sync.WaitGroup
}

type message struct {
	cid  uint32
	cmd  byte
	want int
	seq  byte
	data []byte
}

type running struct {
	cid    uint32
	cancel context.CancelFunc
	gone   bool // its client is: no answer
}

func openTransport(a *Authenticator) (*transport, error) {
	dev, err := openPTY()
	if err != nil {
		return nil, err
	}
	t := &transport{auth: a, dev: dev, nextCID: 1}
	t.wg.Go(t.read)
	return t, nil
}

func (t *transport) path() string { return t.dev.path() }

func (t *transport) close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.drop()
	t.mu.Unlock()
	err := t.dev.Close()
	t.wg.Wait()
	return err
}

// drop ends the command under way without an answer. t.mu is held.
func (t *transport) drop() {
	if t.busy != nil {
		t.busy.gone = true
		t.busy.cancel()
		t.busy = nil
	}
	t.msg = nil
}

// read takes reports as hidraw does: a report number (0) and 64 bytes.
func (t *transport) read() {
	buf := make([]byte, 1+reportLen)
	for {
		if _, err := io.ReadFull(t.dev, buf); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				t.auth.log.Debug("software key unplugged", "error", err)
			}
			return
		}
		if t.auth.currentFaults().Tarpit {
			continue
		}
		t.report(buf[1:])
	}
}

func (t *transport) report(r []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return // read before it was unplugged: a command begun now would have nobody to end it
	}
	cid, cmd := binary.BigEndian.Uint32(r), r[4]
	if cmd&0x80 == 0 {
		m := t.msg
		if m == nil || m.cid != cid {
			return // section 11.2.5.4: a stray continuation is ignored
		}
		if cmd != m.seq {
			t.msg = nil
			t.fail(cid, hidErrSeq)
			return
		}
		m.seq++
		m.add(r[contHeader:])
		t.complete()
		return
	}
	want := int(binary.BigEndian.Uint16(r[5:]))
	switch {
	case cmd == hidInit:
		t.init(cid, want, r[initHeader:])
		return
	case cid == 0 || cid == broadcastCID || cid >= t.nextCID:
		t.fail(cid, hidErrChannel)
		return
	case cmd == hidCancel: // no answer of its own (section 11.2.9.1.5)
		if t.busy != nil && t.busy.cid == cid {
			t.busy.cancel()
		}
		return
	case t.busy != nil, t.msg != nil && t.msg.cid != cid:
		t.fail(cid, hidErrBusy)
		return
	case want > maxMsgSize:
		t.fail(cid, hidErrLength)
		return
	}
	t.msg = &message{cid: cid, cmd: cmd, want: want}
	t.msg.add(r[initHeader:])
	t.complete()
}

func (m *message) add(b []byte) {
	m.data = append(m.data, b[:min(len(b), m.want-len(m.data))]...)
}

// init is CTAPHID_INIT. On the broadcast channel it means a new client: libfido2 holds a lock on the
// device while it has it open, so whoever was here before is gone (killed perhaps, in the middle of a
// touch), and what it left unread would be taken for the new client's answer.
func (t *transport) init(cid uint32, want int, data []byte) {
	if want != 8 {
		t.fail(cid, hidErrLength)
		return
	}
	id := cid
	if cid == broadcastCID {
		t.drop()
		if err := t.dev.flush(); err != nil {
			t.auth.log.Debug("flushing software key", "error", err)
		}
		id = t.nextCID
		t.nextCID++
	} else if t.busy != nil && t.busy.cid == cid {
		t.drop() // resynchronise (section 11.2.9.1.3)
	}
	out := bytes.Clone(data[:8])
	out = binary.BigEndian.AppendUint32(out, id)
	out = append(out, 2, 1, 0, 0, capWink|capCBOR|capNMSG)
	t.write(cid, hidInit, out)
}

// complete acts on the message once it is whole. t.mu is held.
func (t *transport) complete() {
	m := t.msg
	if len(m.data) < m.want {
		return
	}
	t.msg = nil
	switch m.cmd {
	case hidPing:
		t.write(m.cid, hidPing, m.data)
	case hidWink:
		t.write(m.cid, hidWink, nil)
	case hidCBOR:
		ctx, cancel := context.WithCancel(context.Background())
		t.busy = &running{cid: m.cid, cancel: cancel}
		b := t.busy
		t.wg.Go(func() { t.run(ctx, b, m.data) })
	default:
		t.fail(m.cid, hidErrCommand)
	}
}

// run is one command, with keepalives beside it.
func (t *transport) run(ctx context.Context, b *running, msg []byte) {
	defer b.cancel()
	statuses := make(chan byte, 4)
	stop := make(chan struct{})
	var alive sync.WaitGroup
	alive.Go(func() {
		tick := time.NewTicker(keepalive)
		defer tick.Stop()
		status := byte(statusProcessing)
		for {
			select {
			case status = <-statuses:
			case <-tick.C:
			case <-stop:
				return
			}
			t.mu.Lock()
			if !b.gone {
				t.write(b.cid, hidKeepalive, []byte{status})
			}
			t.mu.Unlock()
		}
	})
	out := t.auth.handle(ctx, msg, func(s byte) {
		select {
		case statuses <- s:
		case <-ctx.Done():
		}
	})
	close(stop)
	alive.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if b.gone {
		return
	}
	t.busy = nil
	t.write(b.cid, hidCBOR, out)
}

func (t *transport) fail(cid uint32, code byte) { t.write(cid, hidError, []byte{code}) }

// write sends one message in reports. A client that reads no more costs at most writeTimeout, then
// the rest is dropped; the next client's INIT cleans up.
func (t *transport) write(cid uint32, cmd byte, data []byte) {
	t.wmu.Lock()
	defer t.wmu.Unlock()
	if err := t.dev.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return
	}
	r := make([]byte, reportLen)
	binary.BigEndian.PutUint32(r, cid)
	r[4] = cmd
	binary.BigEndian.PutUint16(r[5:], uint16(len(data)))
	n := copy(r[initHeader:], data)
	for seq := byte(0); ; seq++ {
		if _, err := t.dev.Write(r); err != nil {
			return
		}
		if data = data[n:]; len(data) == 0 {
			return
		}
		clear(r[4:])
		r[4] = seq
		n = copy(r[contHeader:], data)
	}
}
