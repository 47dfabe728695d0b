//go:build linux

package softkey

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// client is a CTAPHID platform of a few lines, for what libfido2 never does.
type client struct {
	t   *testing.T
	f   *os.File
	cid uint32
}

func connect(t *testing.T, k *Key) *client {
	t.Helper()
	f, err := os.OpenFile(k.Path(), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c := &client{t: t, f: f, cid: broadcastCID}
	nonce := []byte("12345678")
	c.send(hidInit, nonce)
	_, b := c.recv()
	if !bytes.HasPrefix(b, nonce) || len(b) != 17 {
		t.Fatalf("INIT answered %x", b)
	}
	c.cid = binary.BigEndian.Uint32(b[8:])
	return c
}

func (c *client) raw(r []byte) {
	c.t.Helper()
	b := make([]byte, 1+reportLen)
	copy(b[1:], r)
	if _, err := c.f.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) send(cmd byte, data []byte) {
	c.t.Helper()
	r := binary.BigEndian.AppendUint32(nil, c.cid)
	r = binary.BigEndian.AppendUint16(append(r, cmd), uint16(len(data)))
	n := min(len(data), reportLen-initHeader)
	c.raw(append(r, data[:n]...))
	for seq := byte(0); n < len(data); seq++ {
		m := min(len(data)-n, reportLen-contHeader)
		r := append(binary.BigEndian.AppendUint32(nil, c.cid), seq)
		c.raw(append(r, data[n:n+m]...))
		n += m
	}
}

func (c *client) recv() (cmd byte, data []byte) {
	c.t.Helper()
	r := make([]byte, reportLen)
	for {
		if _, err := io.ReadFull(c.f, r); err != nil {
			c.t.Fatal(err)
		}
		if r[4] == hidKeepalive {
			continue
		}
		cmd = r[4]
		want := int(binary.BigEndian.Uint16(r[5:]))
		data = bytes.Clone(r[initHeader:min(reportLen, initHeader+want)])
		for len(data) < want {
			if _, err := io.ReadFull(c.f, r); err != nil {
				c.t.Fatal(err)
			}
			data = append(data, r[contHeader:min(reportLen, contHeader+want-len(data))]...)
		}
		return cmd, data
	}
}

func open(t *testing.T, cfg Config) *Key {
	t.Helper()
	k, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func TestCTAPHID(t *testing.T) {
	k := open(t, Config{})
	c := connect(t, k)
	long := bytes.Repeat([]byte("ping "), 200) // 1000 bytes, 17 reports
	for _, tc := range []struct {
		what string
		do   func()
		cmd  byte
		data []byte
	}{
		{"PING comes back", func() { c.send(hidPing, long) }, hidPing, long},
		{"WINK is answered empty", func() { c.send(hidWink, nil) }, hidWink, []byte{}},
		{"LOCK isn't known", func() { c.send(0x84, []byte{1}) }, hidError, []byte{hidErrCommand}},
		{"an unknown CTAP command", func() { c.send(hidCBOR, []byte{0x77}) }, hidCBOR, []byte{byte(ctapInvalidCommand)}},
		{"an empty CTAP command", func() { c.send(hidCBOR, nil) }, hidCBOR, []byte{byte(ctapInvalidParameter)}},
		{"a continuation out of order", func() {
			c.raw(append(binary.BigEndian.AppendUint32(nil, c.cid), hidPing, 0, 200))
			c.raw(append(binary.BigEndian.AppendUint32(nil, c.cid), 1))
		}, hidError, []byte{hidErrSeq}},
		{"a message longer than any", func() {
			c.raw(append(binary.BigEndian.AppendUint32(nil, c.cid), hidPing, 0xff, 0xff))
		}, hidError, []byte{hidErrLength}},
		{"a channel that nobody was given", func() {
			c.raw(append(binary.BigEndian.AppendUint32(nil, 0xabcdef), hidPing, 0, 0))
		}, hidError, []byte{hidErrChannel}},
	} {
		tc.do()
		if cmd, data := c.recv(); cmd != tc.cmd || !bytes.Equal(data, tc.data) {
			t.Errorf("%s: got %02x %x", tc.what, cmd, data)
		}
	}
}

// TestANewClientAfterAKilledOne: neither the old command nor its keepalives are in its way.
func TestANewClientAfterAKilledOne(t *testing.T) {
	k := open(t, Config{Faults: Faults{TouchDelay: time.Minute}})
	dead := connect(t, k)
	dead.send(hidCBOR, []byte{cmdSelection})
	time.Sleep(5 * keepalive / 2) // some keepalives lie unread
	dead.f.Close()
	c := connect(t, k)
	c.send(hidPing, []byte("still there"))
	if cmd, data := c.recv(); cmd != hidPing || string(data) != "still there" {
		t.Errorf("got %02x %x", cmd, data)
	}
}

func TestCancelAndBusy(t *testing.T) {
	k := open(t, Config{Faults: Faults{TouchDelay: time.Minute}})
	c := connect(t, k)
	c.send(hidCBOR, []byte{cmdSelection})
	c.send(hidPing, nil)
	if cmd, data := c.recv(); cmd != hidError || !bytes.Equal(data, []byte{hidErrBusy}) {
		t.Errorf("while it blinks: %02x %x", cmd, data)
	}
	c.send(hidCancel, nil)
	if cmd, data := c.recv(); cmd != hidCBOR || !bytes.Equal(data, []byte{byte(ctapKeepaliveCancel)}) {
		t.Errorf("cancelled: %02x %x", cmd, data)
	}
}

func TestUnplugWakesEverybody(t *testing.T) {
	k := open(t, Config{Faults: Faults{TouchDelay: time.Minute}})
	c := connect(t, k)
	c.send(hidCBOR, []byte{cmdSelection})
	done := make(chan error, 1)
	go func() { done <- k.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Close hangs")
	}
	if err := k.Close(); err != nil {
		t.Errorf("twice: %v", err)
	}
}
