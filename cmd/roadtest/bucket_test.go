package roadtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"breakglass/internal/loopback"
	"breakglass/internal/road"
)

// bucketOf is stock versitygw with one bucket.
type bucketOf struct {
	s3      *awss3.Client
	t       *testing.T
	dir     string
	address string
	program string
	cmd     *exec.Cmd
}

func startBucket(t *testing.T, locked bool) *bucketOf {
	t.Helper()
	ports, err := loopback.Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	b := &bucketOf{t: t, dir: t.TempDir(), address: ports[0], program: tool(t, "versitygw")}
	for _, d := range []string{"data", "versions"} {
		if err := os.Mkdir(filepath.Join(b.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	b.s3 = awss3.New(awss3.Options{BaseEndpoint: aws.String("http://" + b.address), Region: "us-east-1", UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "k", SecretAccessKey: "s"}, nil
		})})
	if _, err := b.s3.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String("recordings"), ObjectLockEnabledForBucket: &locked}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bucketOf) start() {
	b.t.Helper()
	var log bytes.Buffer
	b.cmd = exec.Command(b.program, "--port", b.address, "--keep-alive", "--quiet", "posix", "--versioning-dir", filepath.Join(b.dir, "versions"), filepath.Join(b.dir, "data"))
	b.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=k", "ROOT_SECRET_KEY=s")
	b.cmd.Stdout, b.cmd.Stderr = &log, &log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	cmd := b.cmd
	b.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(waitTime); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", b.address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%v\n%s", err, log.String())
		}
	}
}

func (b *bucketOf) stop() { b.cmd.Process.Kill(); b.cmd.Wait() }

// use has the road's CA keep its recordings there.
func (b *bucketOf) use(r *road.Road) error {
	r.End("ca", false)
	dir := filepath.Join(r.Dir, "ca")
	if err := os.WriteFile(filepath.Join(dir, "bucket-keys"), []byte("k\ns\n"), 0o600); err != nil {
		return err
	}
	path := filepath.Join(dir, "config.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	kept, skip := lines[:0], false
	for _, l := range lines { // the empty table that init writes
		if strings.HasPrefix(l, "[") {
			skip = strings.HasPrefix(l, "[store")
		}
		if !skip {
			kept = append(kept, l)
		}
	}
	conf := strings.Join(kept, "\n") + fmt.Sprintf("\n[store.s3]\nendpoint = \"http://%s\"\nregion = \"us-east-1\"\nbucket = \"recordings\"\ncredentials = \"bucket-keys\"\nretention_days = 1\n", b.address)
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return err
	}
	return r.StartCA(b.t.Context())
}

// Recordings go into a bucket with Object Lock while their sessions run; the bucket is away for a while and a session neither ends nor loses anything; what the
// ledger names is what is read; and a second copy is made and proved.
func TestABucketAsTheStore(t *testing.T) {
	b := startBucket(t, true)
	policy := strings.Replace(road.DemoPolicy, "[[rule]]\n", "[[rule]]\nretain_days = 30\nlegal_hold = true\n", 1)
	r, alice, bob := start(t, road.Config{Policy: policy})
	ctx := t.Context()
	if err := b.use(r); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Run(ctx, "breakglass", "ssh", "--reason", reason, alice.Target(), "--", "echo in the bucket; seq 30000"); err != nil {
		t.Fatal(err)
	}
	id, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	verified := func(id string) {
		t.Helper()
		if out, err := bob.Run(ctx, "breakglass", "verify", id); err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	verified(id)
	if left, _ := filepath.Glob(filepath.Join(r.Dir, "ca", "store", "*")); len(left) != 0 {
		t.Errorf("files beside the bucket: %q", left)
	}
	// The service behind the bucket is stopped while a session runs.
	x := openTerminal(t, alice.Command(ctx, "breakglass", "ssh", "--reason", reason, alice.Target()))
	x.until("recorded")
	x.typ("PS1='> '; echo before $((40+2))\r")
	x.until("before 42")
	b.stop()
	x.typ("seq 5000 | tail -1; echo while $((40+3)) it is away\r")
	x.until("while 43")
	b.start()
	x.typ("echo after $((40+4))\r")
	x.until("after 44")
	x.typ("exit\r")
	if err := x.wait(); err != nil {
		t.Fatal(err)
	}
	second, err := newest(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	verified(second)
	if out, err := bob.Run(ctx, "breakglass", "export", second, "--text"); err != nil || !strings.Contains(out, "while 43 it is away") || !strings.Contains(out, "after 44") {
		t.Errorf("%v\n%s", err, tail(out, 20))
	}
	// The CA starts anew, and reads by what its ledger says.
	r.End("ca", true)
	if err := r.StartCA(ctx); err != nil {
		t.Fatal(err)
	}
	verified(id)
	dir := filepath.Join(r.Dir, "ca")
	store := func(args ...string) (string, error) {
		return r.Run(ctx, "breakglass-ca", append(append([]string{"store"}, args...), "--dir", dir)...)
	}
	if out, err := store("check"); err != nil || strings.Count(out, "held ") < 9 {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := store("verify"); err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("%v\n%s", err, out)
	}
	// The bucket's owner releases a hold that the policy wanted.
	key := "m/" + strings.Replace(id, "/", ".", 1)
	hold := func(status types.ObjectLockLegalHoldStatus) {
		t.Helper()
		if _, err := b.s3.PutObjectLegalHold(ctx, &awss3.PutObjectLegalHoldInput{Bucket: aws.String("recordings"), Key: &key, LegalHold: &types.ObjectLockLegalHold{Status: status}}); err != nil {
			t.Fatal(err)
		}
	}
	hold(types.ObjectLockLegalHoldStatusOff)
	if out, err := store("verify"); err == nil || !strings.HasPrefix(out, "FAILED\n") || !strings.Contains(out, key+" is under no legal hold") {
		t.Errorf("%v\n%s", err, out)
	}
	hold(types.ObjectLockLegalHoldStatusOn)
	root := t.TempDir()
	copied := filepath.Join(root, "ca", "store") // where Remove knows that files are immutable
	t.Cleanup(func() { road.Remove(root) })
	for range 2 {
		if out, err := store("copy", copied); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if out, err := store("verify", "--copy", copied); err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("%v\n%s", err, out)
	}
	// What the store lost comes back from there.
	third := filepath.Join(root, "ca", "store", "third")
	if out, err := store("copy", "--from", copied, third); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := store("verify", "--copy", third); err != nil || !strings.HasPrefix(out, "VERIFIED\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := store("copy", "--from", third+"-of-none", third); err == nil {
		t.Errorf("from nowhere:\n%s", out)
	}
	road.Mutable(root)
	if err := os.RemoveAll(third); err != nil {
		t.Fatal(err)
	}
	// Of the copy a file is lost, and one is there that nobody knows.
	road.Mutable(root)
	env := filepath.Join(copied, strings.Replace(id, "/", ".", 1)+".envelope")
	if err := os.Rename(env, filepath.Join(copied, "k7f-2mq.9.part")); err != nil {
		t.Fatal(err)
	}
	out, err := store("verify", "--copy", copied)
	if err == nil || !strings.Contains(out, "envelope is missing") || !strings.Contains(out, "knows no such session") {
		t.Errorf("%v\n%s", err, out)
	}
	// Behind the service's back a piece is changed on its disk.
	pieces, _ := filepath.Glob(filepath.Join(b.dir, "data", "recordings", "s", strings.Replace(id, "/", ".", 1), "*"))
	if len(pieces) == 0 {
		t.Fatal("no pieces in the bucket")
	}
	p, err := os.ReadFile(pieces[0])
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)/2] ^= 1
	if err := os.WriteFile(pieces[0], p, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := store("verify"); err == nil || !strings.Contains(out, "another hash") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := bob.Run(ctx, "breakglass", "verify", id); err == nil {
		t.Errorf("verifies with a changed piece:\n%s", out)
	}
}

// A bucket in which recordings could be deleted is refused before anybody is let in.
func TestABucketWithoutALockIsRefused(t *testing.T) {
	b := startBucket(t, false)
	r, _ := begin(t, road.Config{})
	err := b.use(r)
	if err == nil || !strings.Contains(err.Error(), "does not protect") {
		t.Errorf("%v", err)
	}
}
