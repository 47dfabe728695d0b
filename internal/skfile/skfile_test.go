package skfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/softkey"
)

// TestStockSSHKeygen has ssh-keygen read the file and print its public half.
func TestStockSSHKeygen(t *testing.T) {
	a, err := softkey.NewAuthenticator(softkey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := a.Enroll("ssh:breakglass", []byte("challenge"), true)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Marshal(e.PublicKey.Marshal(), e.CredentialID, FlagUserPresence|FlagUserVerification, "alice's key")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh-keygen", "-y", "-f", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(e.PublicKey))) + " alice's key"; strings.TrimSpace(string(out)) != want {
		t.Errorf("got  %swant %s", out, want)
	}
	if _, err := Marshal(ed25519Key(t).Marshal(), nil, 0, ""); err == nil {
		t.Error("an ordinary key passed")
	}
}

func ed25519Key(t *testing.T) ssh.PublicKey {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdFt/hc1p+UaYXzM+kRk6MxNFL6+TNyilBfU67tbDOO"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
