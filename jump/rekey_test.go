package jump

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/transcript"
)

// A client that wants new keys all the time gets them, and loses and duplicates nothing: neither on its way nor in the recording.
func TestAFloodOfRekeys(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	nc, err := net.Dial("tcp", w.jump)
	check(t, err)
	nc.Write(Preamble(g.host))
	conn, chans, reqs, err := ssh.NewClientConn(nc, w.jump, &ssh.ClientConfig{Config: ssh.Config{RekeyThreshold: 8 << 10}, User: string(g.login),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(withCert(t, g.cert, g.signer))}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	check(t, err)
	client := ssh.NewClient(conn, chans, reqs)
	defer client.Close()
	late := time.AfterFunc(60*time.Second, func() { client.Close() })
	defer late.Stop()
	r := w.raw(client)
	if !r.ask("exec", str("cat")) {
		t.Fatal("not started")
	}
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	go func() {
		for b := sent; len(b) > 0; b = b[4096:] { // two of them reach the threshold
			if _, err := r.Write(b[:4096]); err != nil {
				return
			}
		}
		r.CloseWrite()
	}()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	client.Close()
	rec := w.session(g, 1)
	if rec.data(transcript.KindInput, 0) != string(sent) || rec.data(transcript.KindOutput, 0) != string(sent) {
		t.Errorf("recorded %d bytes of input and %d of output, want %d each, the same", len(rec.data(transcript.KindInput, 0)), len(rec.data(transcript.KindOutput, 0)), len(sent))
	}
}
