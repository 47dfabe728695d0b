package home

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"breakglass/internal/durable"
	"breakglass/internal/name"
)

// Person is config.toml.
type Person struct {
	Person name.Person `toml:"person"`
	Login  name.Login  `toml:"login,omitempty" comment:"asked for where a command names no login"`
	Hosts  []string    `toml:"hosts,omitempty" comment:"patterns that plain ssh always takes through breakglass"`
	Keys   []Key       `toml:"keys,omitempty"`
}

// Key is an enrolled hardware key.
type Key struct {
	Name         name.Key `toml:"name"`
	PublicKey    string   `toml:"public_key"` // authorized_keys form
	CredentialID []byte   `toml:"-"`
	Credential   string   `toml:"credential"` // base64url of the credential id
}

// LoadPerson reads config.toml; unknown keys are shown with line and caret.
func (h Home) LoadPerson() (Person, error) {
	path := h.Path("config.toml")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Person{}, fmt.Errorf("%w: no %s", ErrNotEnrolled, path)
	}
	if err != nil {
		return Person{}, fmt.Errorf("reading the configuration: %w", err)
	}
	var p Person
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		var strict *toml.StrictMissingError
		var bad *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			return Person{}, fmt.Errorf("reading %s: unknown key:\n%s", path, strict.String())
		case errors.As(err, &bad):
			return Person{}, fmt.Errorf("reading %s:\n%s", path, bad.String())
		}
		return Person{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return p, p.check(path)
}

func (p *Person) check(path string) error {
	if _, err := name.ParsePerson(string(p.Person)); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if p.Login != "" {
		if _, err := name.ParseLogin(string(p.Login)); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
	for i := range p.Keys {
		k := &p.Keys[i]
		if _, err := name.ParseKey(string(k.Name)); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		id, err := decodeCredential(k.Credential)
		if err != nil {
			return fmt.Errorf("reading %s: key %s: %w", path, k.Name, err)
		}
		k.CredentialID = id
	}
	return nil
}

// SavePerson writes config.toml.
func (h Home) SavePerson(p Person) error {
	p.Keys = slices.Clone(p.Keys)
	for i := range p.Keys {
		p.Keys[i].Credential = encodeCredential(p.Keys[i].CredentialID)
	}
	b, err := toml.Marshal(p)
	if err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	if err := h.MakeConfig(); err != nil {
		return err
	}
	if err := durable.WriteFile(h.Path("config.toml"), b, 0o600); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}

// WithKey adds a key, or replaces the one of that name.
func (p Person) WithKey(k Key) Person {
	p.Keys = slices.DeleteFunc(slices.Clone(p.Keys), func(old Key) bool { return old.Name == k.Name })
	p.Keys = append(p.Keys, k)
	return p
}
