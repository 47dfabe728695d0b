package jump

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// plainPacket is a packet before there are keys (RFC 4253 section 6).
func plainPacket(payload []byte) []byte {
	pad := 8 - (5+len(payload))%8
	if pad < 4 {
		pad += 8
	}
	return cat(u32(uint32(1+len(payload)+pad)), []byte{byte(pad)}, payload, make([]byte, pad))
}

// Strict key exchange (OpenSSH PROTOCOL section 1.9): nothing but the exchange's own messages before the keys are there, or the connection ends. So no prefix
// can be cut off unseen (CVE-2023-48795). Without something in between, the same messages lead to keys.
func TestStrictKex(t *testing.T) {
	w := newWorld(t)
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(t, err)
	compressing := func(with string) []byte {
		return plainPacket(cat([]byte{20}, make([]byte, 16), str("curve25519-sha256,kex-strict-c-v00@openssh.com"), str("ssh-ed25519,ssh-ed25519-cert-v01@openssh.com"),
			str("aes128-gcm@openssh.com"), str("aes128-gcm@openssh.com"), str("hmac-sha2-256-etm@openssh.com"), str("hmac-sha2-256-etm@openssh.com"),
			str(with), str(with), str(""), str(""), []byte{0}, u32(0)))
	}
	kexInit := compressing("none")
	ecdhInit := plainPacket(cat([]byte{30}, str(string(key.PublicKey().Bytes()))))
	ignore := plainPacket(cat([]byte{2}, str("ignored")))
	debug := plainPacket(cat([]byte{4, 0}, str("shown"), str("")))
	unimplemented := plainPacket(cat([]byte{3}, u32(0)))
	for _, c := range []struct {
		is   string
		send [][]byte
		keys bool
	}{
		{"nothing in between", [][]byte{kexInit, ecdhInit}, true},
		{"an IGNORE before KEXINIT", [][]byte{ignore, kexInit, ecdhInit}, false},
		{"an IGNORE after KEXINIT", [][]byte{kexInit, ignore, ecdhInit}, false},
		{"a DEBUG before KEXINIT", [][]byte{debug, kexInit, ecdhInit}, false},
		{"a DEBUG after KEXINIT", [][]byte{kexInit, debug, ecdhInit}, false},
		{"an UNIMPLEMENTED after KEXINIT", [][]byte{kexInit, unimplemented, ecdhInit}, false},
		{"compression or none", [][]byte{compressing("zlib@openssh.com,none"), ecdhInit}, true},
		{"compression before who it is", [][]byte{compressing("zlib"), ecdhInit}, false}, // CVE-2016-10012 and its kind
		{"nothing but compression", [][]byte{compressing("zlib@openssh.com"), ecdhInit}, false},
		{"a login before the keys", [][]byte{kexInit, plainPacket(cat([]byte{5}, str("ssh-userauth"))), ecdhInit}, false},
		{"a channel before the keys", [][]byte{kexInit, plainPacket(cat([]byte{90}, str("session"), u32(0), u32(1<<20), u32(1<<15))), ecdhInit}, false},
		{"a command before anything", [][]byte{plainPacket(cat([]byte{98}, u32(0), str("exec"), []byte{1}, str("id")))}, false},
		{"KEXINIT twice", [][]byte{kexInit, kexInit, ecdhInit}, false},
	} {
		keys, err := keysCome(w.jump, c.send)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			t.Errorf("%s: the connection goes on", c.is)
		case keys != c.keys:
			t.Errorf("%s: keys came: %v, %v", c.is, keys, err)
		}
	}
}

// keysCome sends what it is given after an identification, and says whether the other side answers with NEWKEYS before it ends the connection.
func keysCome(address string, send [][]byte) (bool, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout / 2)); err != nil {
		return false, err
	}
	fmt.Fprint(c, "SSH-2.0-strict\r\n")
	for _, b := range send {
		c.Write(b) // the other side may be gone already
	}
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		return false, err
	}
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r, head); err != nil {
			return false, err
		}
		n := binary.BigEndian.Uint32(head)
		if n > 256<<10 || n < 2 {
			return false, fmt.Errorf("a packet of %d bytes", n)
		}
		b := make([]byte, n-1)
		if _, err := io.ReadFull(r, b); err != nil {
			return false, err
		}
		if b[0] == 21 { // NEWKEYS
			return true, nil
		}
	}
}
