//go:build linux

package softkey_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"breakglass/internal/softkey"
)

// TestHMACSecretWithStockTools: fido2-cred makes a credential and fido2-assert has it derive, over both PIN protocols, with one salt. The key has no PIN,
// for these tools read that from a terminal alone: so the secret is that of a user who was not verified.
func TestHMACSecretWithStockTools(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		t.Run(fmt.Sprint("protocol ", protocol), func(t *testing.T) {
			s := newStock(t)
			k, err := softkey.Open(softkey.Config{PINProtocols: []int{protocol}})
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if out := s.run("", "fido2-token", "-I", k.Path()); !strings.Contains(out, "hmac-secret") {
				t.Errorf("fido2-token knows of no hmac-secret:\n%s", out)
			}
			b64 := base64.StdEncoding.EncodeToString
			hash, salt := make([]byte, 32), make([]byte, 32)
			rand.Read(hash)
			rand.Read(salt)
			made := s.run(strings.Join([]string{b64(hash), "breakglass-reader", "bob", b64([]byte("bob"))}, "\n")+"\n", "fido2-cred", "-M", "-h", k.Path(), "es256")
			// fido2-cred(1): hash, relying party, format, authenticator data, credential id, signature.
			lines := strings.Fields(made)
			if len(lines) < 5 {
				t.Fatalf("fido2-cred: %q", made)
			}
			out := s.run(strings.Join([]string{b64(hash), "breakglass-reader", lines[4], b64(salt)}, "\n")+"\n", "fido2-assert", "-G", "-h", k.Path())
			lines2 := strings.Fields(out)
			got, err := base64.StdEncoding.DecodeString(lines2[len(lines2)-1])
			if err != nil {
				t.Fatalf("fido2-assert: %q: %v", out, err)
			}
			id, err := base64.StdEncoding.DecodeString(lines[4])
			if err != nil {
				t.Fatal(err)
			}
			want, err := k.Authenticator().Secret("breakglass-reader", id, salt, false)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("fido2-assert has %x, the key gave %x", got, want)
			}
			verified, err := k.Authenticator().Secret("breakglass-reader", id, salt, true)
			if err != nil || bytes.Equal(verified, want) {
				t.Errorf("a verified user gets the same secret as one who only touched (%v)", err)
			}
			if _, err := s.try(strings.Join([]string{b64(hash), "ssh:breakglass", lines[4], b64(salt)}, "\n")+"\n", "fido2-assert", "-G", "-h", k.Path()); err == nil {
				t.Error("derived for another relying party")
			}
		})
	}
}
