package roadtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"breakglass/internal/road"
)

// skProvider builds the OpenSSH security key provider over software keys: what stands in for the key that stock ssh-keygen drives.
func skProvider(t *testing.T) string {
	t.Helper()
	so := filepath.Join(t.TempDir(), "skprovider.so")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", so, "../../testdata/skprovider")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the sk provider: %v\n%s", err, out)
	}
	return so
}

// TestCurlJqSSHKeygen runs the recipe that `breakglass runbook` prints, as printed, where none of our programs is in reach: curl,
// jq and `ssh-keygen -Y sign` ask the CA, stock ssh goes through the jump, and the reader finds the session.
func TestCurlJqSSHKeygen(t *testing.T) {
	for _, tool := range []string{"curl", "jq", "bash", "xargs", "base64", "ssh-keygen", "ssh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the recipe needs %s: %v", tool, err)
		}
	}
	so := skProvider(t)
	r, alice, bob := start(t, road.Config{})
	ctx := t.Context()
	recipe, err := alice.Run(ctx, "breakglass", "runbook")
	if err != nil {
		t.Fatal(err)
	}
	// The recipe is on paper: it lies where nothing of breakglass does.
	far := t.TempDir()
	run := func(recipe string, args ...string) (status int, stdout, stderr string) {
		t.Helper()
		script := filepath.Join(far, "runbook.sh")
		if err := os.WriteFile(script, []byte(recipe), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, "sh", append([]string{script}, args...)...)
		cmd.Dir = far
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + far, "SSH_SK_PROVIDER=" + so,
			"BREAKGLASS_SOFTKEY=" + filepath.Join(alice.Home, "software-key.json"),
			"SSH_ASKPASS=" + filepath.Join(alice.Home, "askpass"), "SSH_ASKPASS_REQUIRE=force"} // ssh-keygen asks for the PIN there, no terminal being here
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		cmd.Stdin = strings.NewReader("through the jump\n")
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}

	status, out, errs := run(recipe, r.Login, road.Host, reason, "cat; echo sum $((40+2)); exit 9")
	if status != 9 || out != "through the jump\nsum 42\n" {
		t.Fatalf("status %d, %q\n%s", status, out, errs)
	}
	if !strings.Contains(errs, "\nhost: "+road.Host+"\n") || !strings.Contains(errs, "\nreason: "+reason+"\n") {
		t.Errorf("what was signed is not shown first:\n%s", errs)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	text, err := bob.Run(ctx, "breakglass", "export", id, "--text")
	if err != nil || !strings.Contains(text, "sum 42") {
		t.Errorf("transcript: %v\n%s", err, tail(text, 40))
	}
	if out, err := bob.Run(ctx, "breakglass", "verify", id); err != nil || !strings.HasPrefix(out, "VERIFIED\n") || !strings.Contains(out, "alice") {
		t.Errorf("verify: %v\n%s", err, out)
	}

	// A denial reads the same way here as anywhere.
	if status, _, errs := run(recipe, "nobody-here", road.Host, reason); status != 1 || !strings.Contains(errs, "login_not_allowed: ") {
		t.Errorf("denied: status %d\n%s", status, errs)
	}
	// A CA with another TLS key learns nothing: not the statement is asked for, and nothing is signed.
	at := strings.Index(recipe, "\nSPKI=") + len("\nSPKI=")
	other := "0"
	if recipe[at] == '0' {
		other = "1"
	}
	if status, _, errs := run(recipe[:at]+other+recipe[at+1:], r.Login, road.Host, reason, "true"); status == 0 || !strings.Contains(errs, "pinned") {
		t.Errorf("another TLS key than the pinned one: status %d\n%s", status, errs)
	}
	// A jump that the pinned host CA does not vouch for is not spoken to: the certificate is not even offered.
	at = strings.Index(recipe, "\nHOST_CA='") + len("\nHOST_CA='")
	end := at + strings.IndexByte(recipe[at:], '\'')
	status, _, errs = run(recipe[:at]+r.HostKey+recipe[end:], r.Login, road.Host, reason, "true")
	if status != 255 || !strings.Contains(errs, "Host key verification failed") {
		t.Errorf("another host CA than the pinned one: status %d\n%s", status, errs)
	}
}
