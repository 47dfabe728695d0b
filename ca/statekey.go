package ca

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"breakglass/internal/durable"
)

// fileState holds the state key: what the ledger must keep and nobody may read there (seeds of codes) is sealed to it. It signs nothing, so
// it is no part of a rotation; who loses it enrols those devices anew.
const fileState = "state"

const stateKeySize = 32

// loadStateKey reads the state key, and makes it where there is none yet.
func loadStateKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, fileState)
	b, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		k := make([]byte, stateKeySize)
		rand.Read(k)
		if err := durable.WriteNew(path, []byte(hex.EncodeToString(k)+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("making the state key: %w", err)
		}
		return k, nil
	} else if err != nil {
		return nil, err
	}
	k, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(k) != stateKeySize {
		return nil, fmt.Errorf("reading key %s: want %d bytes in hex", fileState, stateKeySize)
	}
	return k, nil
}
