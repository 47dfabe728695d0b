// Package skfile writes the OpenSSH private key file of a security key (PROTOCOL.key, sk-ecdsa): flags and key handle, no
// secret. With it `ssh-keygen -Y sign` signs on a laptop that has never seen the key before.
package skfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"slices"

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

// Marshal writes the file in PEM form. blob is an sk-ecdsa public key's. The same key and handle give the same bytes: whether a file was made
// anew or kept tells nothing.
func Marshal(blob, handle []byte, flags byte, comment string) (string, error) {
	if !bytes.HasPrefix(blob, text(nil, []byte(sshsig.KeyAlgoSK))) {
		return "", fmt.Errorf("key file: not a key of %s", sshsig.KeyAlgoSK)
	}
	// The two check numbers say whether a passphrase was right, and there is none: they need only be alike.
	sum := sha256.Sum256(slices.Concat(blob, handle))
	private := slices.Concat(sum[:4], sum[:4], blob, []byte{flags}) // the key's own fields are the blob's, in its order
	private = text(private, handle)
	private = text(private, nil) // reserved
	private = text(private, []byte(comment))
	for i := byte(1); len(private)%blockSize != 0; i++ {
		private = append(private, i)
	}
	b := []byte(magic)
	for _, s := range []string{"none", "none", ""} { // cipher, KDF and its options
		b = text(b, []byte(s))
	}
	b = binary.BigEndian.AppendUint32(b, 1) // keys
	b = text(text(b, blob), private)
	return string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: b})), nil
}

// text appends a string of RFC 4251 section 5.
func text(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
