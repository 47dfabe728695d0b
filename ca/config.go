package ca

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/pelletier/go-toml/v2"

	"breakglass/internal/durable"
)

// File is config.toml.
type File struct {
	Listen string  `toml:"listen" comment:"IP:PORT that the service listens on"`
	Geo    FileGeo `toml:"geo" comment:"MaxMind databases; without them every address outside of a trusted network is unknown"`
}

// FileGeo names databases.
type FileGeo struct {
	Country   string `toml:"country"`
	Anonymous string `toml:"anonymous"`
}

// readFile reads config.toml strictly; unknown keys are shown with line and caret.
func readFile(path string) (f File, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return f, fmt.Errorf("reading the configuration: %w", err)
	}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		var strict *toml.StrictMissingError
		var syntax *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			return f, fmt.Errorf("reading the configuration: %s:\n%s", path, strict.String())
		case errors.As(err, &syntax):
			return f, fmt.Errorf("reading the configuration: %s:\n%s", path, syntax.String())
		}
		return f, fmt.Errorf("reading the configuration: %s: %w", path, err)
	}
	return f, nil
}

func (f File) write(path string) error {
	b, err := toml.Marshal(f)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, b, 0o600)
}
