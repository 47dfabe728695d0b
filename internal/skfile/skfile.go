// Package skfile writes the OpenSSH private key file of a security key (PROTOCOL.key, sk-ecdsa): flags and key handle, no
// secret. With it `ssh-keygen -Y sign` signs on a laptop that has never seen the key before.
package skfile

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/sshsig"
)

// Flags of the file (OpenSSH sk-api.h). A key asks its holder for a touch, and for the PIN where the flag says so.
const (
	FlagUserPresence     = 0x01
	FlagUserVerification = 0x04
)

const (
	magic = "openssh-key-v1\x00"
	// blockSize is that of cipher "none".
	blockSize = 8
)

// Marshal writes the file in PEM form. pub has to be an sk-ecdsa key.
func Marshal(pub ssh.PublicKey, handle []byte, flags byte, comment string) (string, error) {
	var k struct{ Type, Curve, Point, Application string }
	if err := ssh.Unmarshal(pub.Marshal(), &k); err != nil || k.Type != sshsig.KeyAlgoSK {
		return "", fmt.Errorf("key file: %s is not %s", pub.Type(), sshsig.KeyAlgoSK)
	}
	var check [4]byte
	rand.Read(check[:])
	private := append(append([]byte{}, check[:]...), check[:]...)
	private = append(private, ssh.Marshal(struct {
		Type, Curve, Point, Application string
		Flags                           byte
		Handle, Reserved                []byte
		Comment                         string
	}{k.Type, k.Curve, k.Point, k.Application, flags, handle, nil, comment})...)
	for i := byte(1); len(private)%blockSize != 0; i++ {
		private = append(private, i)
	}
	var b bytes.Buffer
	b.WriteString(magic)
	b.Write(ssh.Marshal(struct {
		Cipher, KDF, Options string
		N                    uint32
		Public, Private      []byte
	}{"none", "none", "", 1, pub.Marshal(), private}))
	return string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: b.Bytes()})), nil
}
