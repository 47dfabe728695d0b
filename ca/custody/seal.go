package custody

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const (
	// WorkFactor is scrypt's log2(N): 64 MiB and about a quarter of a second a file and guess. The CA opens five at its start, and sessions are
	// marked blind when it is away for longer than that.
	WorkFactor = 16
	// StandbyWorkFactor is that of keys that lie elsewhere and are opened once in years.
	StandbyWorkFactor = 18
	// maxWorkFactor bounds what a file may ask of this machine: 1 GiB.
	maxWorkFactor = 20
	// maxFile bounds a key file in bytes: a sealed key has under 2 KiB.
	maxFile = 64 << 10
	// MinPassphrase is the shortest passphrase that seals, in bytes: the file may be copied and guessed at for years.
	MinPassphrase = 12
)

// Seal writes an age file with secret in it, under the passphrase. factor 0 is WorkFactor; tests take less.
func Seal(secret, passphrase []byte, factor int) ([]byte, error) {
	if len(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("sealing a key: a passphrase of at least %d characters is wanted", MinPassphrase)
	}
	r, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("sealing a key: %w", err)
	}
	if factor == 0 {
		factor = WorkFactor
	}
	r.SetWorkFactor(factor)
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, r)
	if err == nil {
		_, err = w.Write(secret)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = a.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sealing a key: %w", err)
	}
	return out.Bytes(), nil
}

// Unseal opens what Seal wrote, or `age -p`, armored or not. The caller wipes what it gets.
func Unseal(file, passphrase []byte) ([]byte, error) {
	id, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("opening a sealed key: %w", err)
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	var src io.Reader = bytes.NewReader(file)
	if bytes.HasPrefix(file, []byte(armor.Header)) {
		src = armor.NewReader(src)
	}
	r, err := age.Decrypt(src, id)
	if no := new(age.NoIdentityMatchError); errors.As(err, &no) {
		return nil, ErrPassphrase
	} else if err != nil {
		return nil, fmt.Errorf("opening a sealed key: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil || len(b) > maxFile {
		Wipe(b)
		return nil, errors.Join(err, errors.New("opening a sealed key: damaged, or too long"))
	}
	return b, nil
}

// Wipe overwrites a secret.
func Wipe(b []byte) { clear(b) }
