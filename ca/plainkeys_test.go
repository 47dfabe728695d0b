package ca_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/catest"
	"breakglass/internal/statement"
)

// TestNoSecretLiesPlain: whoever copies a production CA's directory, as a backup does, has no key of it: neither one that it was made with, nor what is
// derived from one, nor a seed of anybody's codes. And no rotation makes those seeds unreadable.
func TestNoSecretLiesPlain(t *testing.T) {
	w := newTown(t)
	phone := w.desk["alice"].Device("phone")
	_, err := phone.Enrol(phone.Code(w.clock.now()), "")
	catest.Must(t, err)

	credentials := filepath.Join(filepath.Dir(w.Dir), "credentials")
	secrets := map[string][]byte{}
	files, err := os.ReadDir(credentials)
	catest.Must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(credentials, f.Name()))
		catest.Must(t, err)
		for _, line := range strings.Split(string(b), "\n") {
			if len(line) > 20 && !strings.HasPrefix(line, "-----") {
				secrets[f.Name()+": "+line] = []byte(line)
			}
		}
		if strings.HasSuffix(f.Name(), ca.KeyLedger) {
			key, err := hkdf.Key(sha256.New, bytes.TrimSpace(b), nil, "breakglass state key v1", sha256.Size)
			catest.Must(t, err)
			secrets["the state key"], secrets["the state key in hex"] = key, []byte(hex.EncodeToString(key))
			secrets["the state key in base64"] = []byte(base64.StdEncoding.EncodeToString(key))
		}
	}
	if len(files) != 5 || secrets["the state key"] == nil {
		t.Fatalf("the CA's keys are in %v", files)
	}
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(phone.Seed.Secret)
	catest.Must(t, err)
	secrets["alice's seed"], secrets["alice's seed in base32"] = seed, []byte(phone.Seed.Secret)

	// plain looks through every file of the directory.
	plain := func() {
		t.Helper()
		seen := 0
		catest.Must(t, filepath.WalkDir(w.Dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			seen++
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if in := filepath.Base(filepath.Dir(p)); (in == "keys" || in == "standby-keys") && filepath.Ext(p) != ".age" {
				t.Errorf("%s is not sealed", p)
			}
			for what, s := range secrets {
				if bytes.Contains(b, s) {
					t.Errorf("%s holds %s", p, what)
				}
			}
			return nil
		}))
		if seen < 8 { // database, configuration, policy, standby keys
			t.Errorf("%d files were looked through", seen)
		}
	}
	plain()

	for _, k := range []string{ca.KeyClientCA, ca.KeySessionCA, ca.KeyHostCA, ca.KeyTLS} {
		r, err := w.Rotate(ctx, &ca.RotateAsk{Key: k, Standby: "sealed:" + filepath.Join(w.Dir, "standby-keys", k+".age"), Passphrase: []byte(catest.StandbyPassphrase)})
		catest.Must(t, err)
		_, err = order(w.desk["olga"], statement.OrderRotateKey, r.Order, "", statement.Hash{})
		catest.Must(t, err)
	}
	w.Stop()
	plain()
	catest.Must(t, os.WriteFile(filepath.Join(credentials, ca.CredentialPassphrase), []byte(catest.StandbyPassphrase+"\n"), 0o400))
	w.Start()
	w.clock.forward(time.Minute)
	phone.Person.Client = w.Client(nil)
	_, err = phone.Remove(phone.Code(w.clock.now())) // takes a code of the seed that the ledger keeps
	w.wants("a code after every key was rotated", "", err)
	w.Audit()
}
