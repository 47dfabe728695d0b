package softkey

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// stateVersion is refused when it differs: a key file of another layout would lose credentials.
const stateVersion = 1

// state is everything a power cycle doesn't lose. []byte is base64 in the file.
type state struct {
	Version     int           `json:"version"`
	AAGUID      []byte        `json:"aaguid"`
	Counter     uint32        `json:"counter"`
	PINHash     []byte        `json:"pin_hash,omitempty"` // LEFT(SHA-256(PIN), 16); nil: no PIN set
	PINRetries  int           `json:"pin_retries"`
	UVRetries   int           `json:"uv_retries"`
	Credentials []*credential `json:"credentials"`
	Attestation attestation   `json:"attestation"`
}

// credential is one key pair for one relying party.
type credential struct {
	ID          []byte `json:"id"`
	RPID        string `json:"rp_id"`
	UserID      []byte `json:"user_id"`
	UserName    string `json:"user_name,omitempty"`
	CredProtect int    `json:"cred_protect,omitempty"`
	PrivateKey  []byte `json:"private_key"` // SEC 1 section 2.3.6: 32 bytes, big endian
	// CredRandom of hmac-secret (CTAP 2.1 section 12.5), 32 bytes each; none: made without the extension.
	RandomUV   []byte `json:"cred_random_with_uv,omitempty"`
	RandomNoUV []byte `json:"cred_random_without_uv,omitempty"`

	key *ecdsa.PrivateKey
}

// store runs functions over the state, one at a time, over all processes that use one file.
type store struct {
	path string // "": memory only

	mu  sync.Mutex
	mem *state
}

// update reads the state, runs fn and writes it back, also when fn fails: a wrong PIN costs a retry.
// The file is read afresh each time, since another process (ssh-keygen with the sk provider) may have
// raised the counter. Nothing is fsynced: after a power cut a software key may forget.
func (s *store) update(fn func(*state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path == "" {
		if s.mem == nil {
			s.mem = &state{Version: stateVersion}
		}
		return fn(s.mem)
	}
	unlock, err := lockFile(s.path + ".lock")
	if err != nil {
		return fmt.Errorf("locking software key: %w", err)
	}
	defer unlock()
	st, err := readState(s.path)
	if err != nil {
		return err
	}
	ferr := fn(st)
	if err := writeState(s.path, st); err != nil {
		return err
	}
	return ferr
}

func readState(path string) (*state, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{Version: stateVersion}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading software key: %w", err)
	}
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("reading software key %s: %w", path, err)
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("reading software key %s: version %d, want %d", path, st.Version, stateVersion)
	}
	for _, c := range st.Credentials {
		if c.key, err = parseKey(c.PrivateKey); err != nil {
			return nil, fmt.Errorf("reading software key %s: %w", path, err)
		}
	}
	return &st, nil
}

func writeState(path string, st *state) error {
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("writing software key: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".softkey-*") // CreateTemp makes it 0600
	if err != nil {
		return fmt.Errorf("writing software key: %w", err)
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(append(b, '\n')); err != nil {
		f.Close()
		return fmt.Errorf("writing software key: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing software key: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing software key: %w", err)
	}
	return nil
}

// find returns the credential of that id for that relying party.
func (st *state) find(id []byte, rpID string) *credential {
	for _, c := range st.Credentials {
		if string(c.ID) == string(id) && c.RPID == rpID {
			return c
		}
	}
	return nil
}
