package home

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhereTheFilesAre(t *testing.T) {
	for _, c := range []struct {
		what        string
		env         map[string]string
		config, run string
	}{
		{"one directory for all", map[string]string{Env: "/x", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/r"}, "/x/config", "/x/run"},
		{"XDG", map[string]string{"XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/r"}, "/c/breakglass", "/r/breakglass"},
		{"a relative XDG counts for nothing", map[string]string{"XDG_CONFIG_HOME": "c", "XDG_RUNTIME_DIR": "/r"}, os.Getenv("HOME") + "/.config/breakglass", "/r/breakglass"},
	} {
		h, err := Find(func(k string) string { return c.env[k] })
		if err != nil || h.Config != c.config || h.Run != c.run {
			t.Errorf("%s: %+v, %v", c.what, h, err)
		}
	}
	h, err := Find(func(string) string { return "" })
	if err != nil || !strings.HasPrefix(h.Run, "/tmp/breakglass-") {
		t.Errorf("no runtime directory: %+v, %v", h, err)
	}
}

func TestARunDirectoryThatOthersPreparedIsRefused(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(run string) error
		ok   bool
	}{
		{"none yet", func(string) error { return nil }, true},
		{"ours", func(run string) error { return os.Mkdir(run, 0o700) }, true},
		{"open to others", func(run string) error { return errors.Join(os.Mkdir(run, 0o700), os.Chmod(run, 0o755)) }, false},
		{"a link to elsewhere", func(run string) error { return errors.Join(os.Mkdir(run+"2", 0o700), os.Symlink(run+"2", run)) }, false},
		{"a file", func(run string) error { return os.WriteFile(run, nil, 0o600) }, false},
	} {
		run := filepath.Join(t.TempDir(), "run")
		if err := c.make(run); err != nil {
			t.Fatal(err)
		}
		if err := (Home{Run: run}).MakeRun(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestThePersonComesBack(t *testing.T) {
	h := Home{Config: filepath.Join(t.TempDir(), "config")}
	if _, err := h.LoadPerson(); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("none: %v", err)
	}
	p := Person{Person: "alice"}.WithKey(Key{Name: "a", PublicKey: "x", CredentialID: []byte{1, 2}}).WithKey(Key{Name: "a", PublicKey: "y", CredentialID: []byte{3}})
	if err := h.SavePerson(p); err != nil {
		t.Fatal(err)
	}
	got, err := h.LoadPerson()
	if err != nil || got.Person != "alice" || len(got.Keys) != 1 || got.Keys[0].PublicKey != "y" || string(got.Keys[0].CredentialID) != "\x03" {
		t.Errorf("%+v, %v", got, err)
	}
	for what, text := range map[string]string{
		"an unknown key":          "person = 'alice'\ncolour = 'red'\n",
		"no person":               "hosts = []\n",
		"no TOML":                 "person: alice\n",
		"a login that is no name": "person = 'alice'\nlogin = 'Root'\n",
		"a broken credential":     "person = 'alice'\n[[keys]]\nname = 'a'\npublic_key = 'x'\ncredential = '!'\n",
	} {
		if err := os.WriteFile(h.Path("config.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := h.LoadPerson()
		if err == nil {
			t.Errorf("%s: taken", what)
		}
		if what == "an unknown key" && !strings.Contains(err.Error(), " | ~~~~~~ unknown field") {
			t.Errorf("%s: no caret in\n%v", what, err)
		}
	}
}
