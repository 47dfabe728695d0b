package sshsig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

const ns = "request@breakglass"

// skKey signs as a security key would (PROTOCOL.u2f), with any flags.
type skKey struct {
	priv *ecdsa.PrivateKey
	pub  ssh.PublicKey
	app  string
}

func newSK(t testing.TB, app string) *skKey {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := priv.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Curve, Point, App string }{KeyAlgoSK, "nistp256", string(point), app}))
	if err != nil {
		t.Fatal(err)
	}
	return &skKey{priv, pub, app}
}

func (k *skKey) sign(t testing.TB, namespace string, msg []byte, flags byte, counter uint32) *Signature {
	rest := binary.BigEndian.AppendUint32([]byte{flags}, counter)
	app, data := sha256.Sum256([]byte(k.app)), sha256.Sum256(SignedData(namespace, msg))
	d := sha256.Sum256(slices.Concat(app[:], rest, data[:]))
	r, s, err := ecdsa.Sign(rand.Reader, k.priv, d[:])
	if err != nil {
		t.Fatal(err)
	}
	return &Signature{PublicKey: k.pub, Namespace: namespace, Inner: ssh.Signature{
		Format: KeyAlgoSK, Blob: ssh.Marshal(struct{ R, S *big.Int }{r, s}), Rest: rest,
	}}
}

func TestSecurityKey(t *testing.T) {
	k, other, msg := newSK(t, "ssh:breakglass"), newSK(t, "ssh:breakglass"), []byte("breakglass request v1\n")
	for _, flags := range []byte{0x00, 0x01, 0x04, 0x05} {
		sig, err := Parse(k.sign(t, ns, msg, flags, 118).Armor())
		if err != nil {
			t.Fatal(err)
		}
		if err := sig.Verify(k.pub, ns, msg); err != nil {
			t.Errorf("flags %#x: %v", flags, err)
		}
		touch, err := sig.Touch()
		if err != nil || touch.Flags != flags || touch.Counter != 118 {
			t.Errorf("touch %+v, %v", touch, err)
		}
		if touch.UserPresent() != (flags&1 != 0) || touch.UserVerified() != (flags&4 != 0) {
			t.Errorf("flags %#x read as %+v", flags, touch)
		}
	}
	sig := k.sign(t, ns, msg, 5, 1)
	if err := sig.Verify(other.pub, ns, msg); !errors.Is(err, ErrKey) {
		t.Errorf("another key: %v", err)
	}
	if err := sig.Verify(k.pub, "pass@breakglass", msg); !errors.Is(err, ErrNamespace) {
		t.Errorf("another namespace: %v", err)
	}
	if err := sig.Verify(k.pub, ns, append(msg, ' ')); !errors.Is(err, ErrSignature) {
		t.Errorf("another message: %v", err)
	}
	renamed := *sig
	renamed.Namespace = "pass@breakglass"
	if err := renamed.Verify(k.pub, "pass@breakglass", msg); !errors.Is(err, ErrSignature) {
		t.Errorf("a renamed namespace: %v", err)
	}
	// The flags and the counter are under the signature.
	for i := range 5 {
		bad := *sig
		bad.Inner.Rest = slices.Clone(sig.Inner.Rest)
		bad.Inner.Rest[i] ^= 2
		if err := bad.Verify(k.pub, ns, msg); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d of flags and counter changed: %v", i, err)
		}
	}
	// A key of the same point under another application is another key.
	moved := &skKey{k.priv, nil, "ssh:"}
	point, _ := k.priv.PublicKey.Bytes()
	moved.pub, _ = ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Curve, Point, App string }{KeyAlgoSK, "nistp256", string(point), "ssh:"}))
	if err := moved.sign(t, ns, msg, 5, 1).Verify(k.pub, ns, msg); !errors.Is(err, ErrKey) {
		t.Errorf("another application: %v", err)
	}
	for _, flags := range []byte{0x41, 0x81} {
		if _, err := k.sign(t, ns, msg, flags, 1).Touch(); !errors.Is(err, ErrMalformed) {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
	long := k.sign(t, ns, msg, 5, 1)
	long.Inner.Rest = append(long.Inner.Rest, 0)
	if _, err := long.Touch(); !errors.Is(err, ErrMalformed) {
		t.Errorf("long rest: %v", err)
	}
	if app, err := Application(k.pub); app != "ssh:breakglass" || err != nil {
		t.Errorf("application %q, %v", app, err)
	}
}

func ed25519Signer(t testing.TB) ssh.Signer {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStockSSHKeygen has ssh-keygen check ours, and us its.
func TestStockSSHKeygen(t *testing.T) {
	dir, msg := t.TempDir(), []byte("breakglass call v1\n")
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	k := newSK(t, "ssh:breakglass")
	for name, sig := range map[string]*Signature{"sk": k.sign(t, ns, msg, 5, 7)} {
		allowed := write(name+".allowed", append([]byte("alice "), ssh.MarshalAuthorizedKey(sig.PublicKey)...))
		cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", ns, "-s", write(name+".sig", sig.Armor()))
		cmd.Stdin = bytes.NewReader(msg)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	key := filepath.Join(dir, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("ssh-keygen", "-Y", "sign", "-f", key, "-n", ns, write("msg", msg)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	armored, err := os.ReadFile(filepath.Join(dir, "msg.sig"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := Parse(armored)
	if err != nil {
		t.Fatal(err)
	}
	pubText, _ := os.ReadFile(key + ".pub")
	pub, _, _, _, err := ssh.ParseAuthorizedKey(pubText)
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Verify(pub, ns, msg); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(sig.Armor(), armored) {
		t.Errorf("our armor differs:\n%s\n%s", sig.Armor(), armored)
	}
	if _, err := sig.Touch(); !errors.Is(err, ErrMalformed) {
		t.Errorf("an ordinary key has a touch: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	s := ed25519Signer(t)
	sig, err := Sign(s, ns, []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	good := sig.Marshal()
	cert := &ssh.Certificate{Key: s.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"x"}}
	if err := cert.SignCert(rand.Reader, s); err != nil {
		t.Fatal(err)
	}
	mk := func(w wire) []byte { return append([]byte(magic), ssh.Marshal(w)...) }
	inner := string(ssh.Marshal(sig.Inner))
	pub := string(s.PublicKey().Marshal())
	for name, bad := range map[string][]byte{
		"nothing":           nil,
		"no magic":          good[1:],
		"a cut tail":        good[:len(good)-1],
		"a tail more":       append(slices.Clone(good), 0),
		"version 2":         mk(wire{2, pub, ns, "", hashAlg, inner}),
		"sha256":            mk(wire{1, pub, ns, "", "sha256", inner}),
		"reserved":          mk(wire{1, pub, ns, "x", hashAlg, inner}),
		"no namespace":      mk(wire{1, pub, "", "", hashAlg, inner}),
		"a certificate":     mk(wire{1, string(cert.Marshal()), ns, "", hashAlg, inner}),
		"too long":          bytes.Repeat([]byte("A"), MaxSize+1),
		"armor with no end": []byte(begin + "\nU1NI\n"),
		"armor not base64":  []byte(begin + "\n!!\n" + end),
	} {
		if _, err := Parse(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := Parse(good); err != nil || got.Verify(s.PublicKey(), ns, []byte("m")) != nil {
		t.Errorf("good: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	k := newSK(f, "ssh:breakglass")
	f.Add(k.sign(f, ns, []byte("m"), 5, 1).Marshal())
	f.Add(k.sign(f, ns, []byte("m"), 5, 1).Armor())
	sig, _ := Sign(ed25519Signer(f), ns, []byte("m"))
	f.Add(sig.Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		if again, err := Parse(s.Marshal()); err != nil || again.Namespace != s.Namespace {
			t.Fatalf("our own writing is refused: %v", err)
		}
		s.Touch()
		s.Verify(s.PublicKey, ns, []byte("m")) // must not panic
	})
}
