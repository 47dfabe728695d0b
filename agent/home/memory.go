package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"breakglass/ca/api"
	"breakglass/internal/durable"
)

// Memory keeps the newest checkpoint that this machine has seen, so that a CA that shows an older or another history is found out.
type Memory struct{ Home Home }

func (m Memory) path() string { return m.Home.Path("checkpoint") }

// Last gives the signed note, "" if there is none.
func (m Memory) Last() (string, error) {
	b, err := os.ReadFile(m.path())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// Save keeps a signed note.
func (m Memory) Save(note string) error {
	if err := m.Home.MakeConfig(); err != nil {
		return err
	}
	return durable.WriteFile(m.path(), []byte(note), 0o600)
}

// SavePins writes what is pinned.
func (h Home) SavePins(p api.Pins) error {
	b, err := p.Marshal()
	if err != nil {
		return fmt.Errorf("writing the pins: %w", err)
	}
	if err := h.MakeConfig(); err != nil {
		return err
	}
	if err := durable.WriteFile(h.Path("pins"), b, 0o600); err != nil {
		return fmt.Errorf("writing the pins: %w", err)
	}
	return nil
}
