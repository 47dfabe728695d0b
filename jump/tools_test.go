package jump

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"breakglass/internal/loopback"
	"breakglass/transcript"
)

// mebibytes is how many MiB pass in one session each way: more with N, four gigabytes in a soak.
func mebibytes() int {
	n, err := strconv.Atoi(os.Getenv("N"))
	if err != nil || n < 1 {
		n = 1
	}
	return min(32*n, 4096)
}

// counted hashes a stream.
type counted struct {
	sum io.Writer
	n   int64
}

func (c *counted) Write(b []byte) (int, error) { c.n += int64(len(b)); return c.sum.Write(b) }

// dd moves more than the journal holds, either way; the jump's memory stays as it was, and the recording has every byte.
func TestDDEitherWay(t *testing.T) {
	// One direction's bytes are random, drawn on the host; both ends hash them.
	w := newWorld(t, func(w *world) { w.segments, w.segmentSize = 4, 4<<20 })
	for _, door := range []string{"hop", "jump"} {
		for _, way := range []string{"down", "up"} {
			t.Run(door+" "+way, func(t *testing.T) {
				w := *w
				w.t = t
				g := w.grant()
				conf, target := w.through(door, g)
				size := int64(mebibytes()) << 20
				file := filepath.Join(t.TempDir(), "data")
				f, err := os.Create(file)
				check(t, err)
				defer f.Close()
				sum := sha256.New()
				_, err = io.Copy(f, io.TeeReader(io.LimitReader(&lcg{}, size), sum))
				check(t, err)
				want := fmt.Sprintf("%x", sum.Sum(nil))
				before := resident(t)
				var cmd *exec.Cmd
				got := sha256.New()
				out := &counted{sum: got}
				if way == "down" {
					cmd = exec.Command("ssh", "-F", conf, target, "dd status=none bs=1M if="+file)
					cmd.Stdout = out
				} else {
					cmd = exec.Command("ssh", "-F", conf, target, "dd status=none bs=1M | sha256sum")
					cmd.Stdin, err = os.Open(file)
					check(t, err)
					cmd.Stdout = out
				}
				var errs, text bytes.Buffer
				cmd.Stderr = &errs
				if way == "up" {
					cmd.Stdout = &text
				}
				if err := cmd.Run(); err != nil {
					t.Fatalf("%v\n%s", err, errs.String())
				}
				if way == "down" && (out.n != size || fmt.Sprintf("%x", got.Sum(nil)) != want) {
					t.Errorf("%d bytes of %d came, or others", out.n, size)
				}
				if way == "up" && !strings.HasPrefix(text.String(), want) {
					t.Errorf("the host received %q, want %s", text.String(), want)
				}
				// The fake store keeps recordings in this process's memory: they are the jump's no more.
				if grown := resident(t) - before - 2*size; grown > 96<<20 {
					t.Errorf("%d MiB more than before", grown>>20)
				}
				rec := w.session(g, 1)
				kind := transcript.KindOutput
				if way == "up" {
					kind = transcript.KindInput
				}
				sum.Reset()
				io.WriteString(sum, rec.data(kind, 0))
				if fmt.Sprintf("%x", sum.Sum(nil)) != want {
					t.Error("the recording holds other bytes")
				}
			})
		}
	}
}

// lcg is a stream that nothing compresses, the same each time.
type lcg struct{ at uint64 }

func (r *lcg) Read(b []byte) (int, error) {
	for i := range b {
		r.at = r.at*6364136223846793005 + 1442695040888963407
		b[i] = byte(r.at >> 56)
	}
	return len(b), nil
}

// All byte values arrive as they were sent, with a raw terminal and without, both ways.
func TestEightBitClean(t *testing.T) {
	t.Parallel()
	var all bytes.Buffer
	for a := range 256 {
		for b := range 256 {
			all.Write([]byte{byte(a), byte(b)})
		}
	}
	eachDoor(t, newWorld(t), func(t *testing.T, w *world, door string) {
		for _, tty := range []string{"-T", "-tt"} {
			g := w.grant()
			conf, target := w.through(door, g)
			command := "cat"
			if tty == "-tt" {
				command = "stty raw -echo; printf ready; head -c 131072"
			}
			cmd := exec.Command("ssh", "-F", conf, tty, "-e", "none", target, command)
			in, err := cmd.StdinPipe()
			check(t, err)
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			if tty == "-tt" {
				ready := make([]byte, 5)
				if _, err := io.ReadFull(out, ready); err != nil || string(ready) != "ready" {
					t.Fatalf("%q, %v", ready, err)
				}
			}
			go func() { in.Write(all.Bytes()); in.Close() }()
			got, err := io.ReadAll(out)
			check(t, err)
			check(t, cmd.Wait())
			if !bytes.Equal(got, all.Bytes()) {
				t.Errorf("%s: %d bytes of %d, or others", tty, len(got), all.Len())
			}
			rec := w.session(g, 1)
			if in := rec.data(transcript.KindInput, 0); !strings.HasPrefix(in, all.String()) {
				t.Errorf("%s: recorded %d bytes of input, or others", tty, len(in))
			}
			if out := rec.data(transcript.KindOutput, 0); strings.TrimPrefix(out, "ready") != all.String() {
				t.Errorf("%s: recorded %d bytes of output, or others", tty, len(out))
			}
		}
	})
}

// Keys are changed in the middle of a transfer, every megabyte, by either end's wish.
func TestRekeyInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, door := range []string{"hop", "jump"} {
		t.Run(door, func(t *testing.T) {
			w := *w
			w.t = t
			g := w.grant()
			conf, target := w.through(door, g)
			in := make([]byte, 20<<20)
			(&lcg{}).Read(in)
			r := run(t, bytes.NewReader(in), "ssh", "-F", conf, "-o", "RekeyLimit=1M", target, "cat")
			if r.code != 0 || r.stdout != string(in) {
				t.Fatalf("%d, %d bytes of %d, %s", r.code, len(r.stdout), len(in), r.stderr)
			}
			rec := w.session(g, 1)
			if rec.data(transcript.KindInput, 0) != string(in) || rec.data(transcript.KindOutput, 0) != string(in) {
				t.Error("the recording holds other bytes")
			}
		})
	}
}

// The client asks every second whether somebody is there, and gives up after three that nobody answers; it gets its answers while nothing else happens.
func TestKeepalives(t *testing.T) {
	t.Parallel()
	eachDoor(t, newWorld(t), func(t *testing.T, w *world, door string) {
		g := w.grant()
		conf, target := w.through(door, g)
		r := run(t, nil, "ssh", "-F", conf, "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3", target, "sleep 6.5; echo there")
		if r.stdout != "there\n" || r.code != 0 {
			t.Errorf("%+v", r)
		}
		w.session(g, 1)
	})
}

// A password prompt reads from the terminal with its echo off; what is typed there arrives and is recorded as input, and is not shown.
func TestAPasswordPrompt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.grant()
	conf, target := w.through("hop", g)
	cmd := exec.Command("ssh", "-F", conf, "-tt", target, `sh -c 'stty -echo </dev/tty; printf "[sudo] password: " >/dev/tty; read p </dev/tty; stty echo </dev/tty; echo; echo got ${#p}'`)
	f, err := pty.Start(cmd)
	check(t, err)
	defer f.Close()
	seen := &watched{}
	go io.Copy(seen, f)
	until(t, seen, "password: ")
	f.Write([]byte("correct horse\n"))
	until(t, seen, "got 13")
	cmd.Wait()
	if strings.Contains(seen.String(), "horse") {
		t.Errorf("seen %q", seen.String())
	}
	rec := w.session(g, 1)
	if !strings.Contains(rec.data(transcript.KindInput, 0), "correct horse") || strings.Contains(rec.data(transcript.KindOutput, 0), "horse") {
		t.Error("the recording holds something else")
	}
}

func until(t *testing.T, o *watched, want string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(o.String(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in %q", want, o.String())
		}
	}
}

// tmux draws, takes resizes, is left and entered again.
func TestTmux(t *testing.T) {
	t.Parallel()
	tool(t, "tmux")
	w := newWorld(t)
	g := w.grant()
	conf, target := w.through("hop", g)
	socket := filepath.Join(t.TempDir(), "s")
	defer exec.Command("tmux", "-S", socket, "kill-server").Run()
	attach := func(n int, enter string, f func(f *os.File, seen *watched)) {
		cmd := exec.Command("ssh", "-F", conf, "-tt", target, "LC_ALL=C.UTF-8 TERM=xterm tmux -S "+socket+" "+enter)
		tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
		check(t, err)
		defer tty.Close()
		seen := &watched{}
		go io.Copy(seen, tty)
		f(tty, seen)
		tty.Write([]byte{2, 'd'}) // Ctrl-B d: leave it running
		cmd.Wait()
		if !strings.Contains(seen.String(), "detached") {
			t.Errorf("%d: left as %q", n, seen.String())
		}
		rec := w.session(g, n)
		rec.has("person pty-req")
		if !strings.Contains(rec.data(transcript.KindInput, 0), "\x02d") {
			t.Errorf("%d: keys are not recorded", n)
		}
	}
	attach(1, "new-session -x 80 -y 24 sh", func(f *os.File, seen *watched) {
		until(t, seen, "[0]")
		f.Write([]byte("echo mar''ker\n"))
		until(t, seen, "marker")
		check(t, pty.Setsize(f, &pty.Winsize{Rows: 30, Cols: 100}))
		time.Sleep(300 * time.Millisecond)
		f.Write([]byte("stty size\n"))
		until(t, seen, "29 100") // one line is tmux's own
	})
	attach(2, "attach", func(f *os.File, seen *watched) { until(t, seen, "marker") })
}

// ansible copies, runs and templates over one connection that it keeps.
func TestAnsible(t *testing.T) {
	t.Parallel()
	ansible := tool(t, "ansible-playbook")
	eachDoor(t, newWorld(t), func(t *testing.T, w *world, door string) {
		if door == "plain" { // to ansible that is the same as hop
			return
		}
		g := w.grant()
		conf, target := w.through(door, g)
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "t.j2"), []byte("host {{ inventory_hostname }}\n"), 0o600))
		check(t, os.WriteFile(filepath.Join(dir, "book.yml"), fmt.Appendf(nil, `
- hosts: all
  gather_facts: false
  vars: {ansible_python_interpreter: /usr/bin/python3, ansible_remote_tmp: %[1]s/tmp}
  tasks:
    - {copy: {content: copied, dest: %[1]s/copied}}
    - {command: "touch %[1]s/touched"}
    - {template: {src: t.j2, dest: %[1]s/templated}}
`, dir), 0o600))
		check(t, os.WriteFile(filepath.Join(dir, "inventory"), fmt.Appendf(nil, "web01 ansible_host=%s\n", target), 0o600))
		if door == "user" {
			check(t, os.WriteFile(filepath.Join(dir, "inventory"), fmt.Appendf(nil, "web01 ansible_host=jump-a ansible_user=%s@web01\n", w.login), 0o600))
		}
		cmd := exec.Command(ansible, "-i", filepath.Join(dir, "inventory"), filepath.Join(dir, "book.yml"))
		cmd.Env = append(os.Environ(), "ANSIBLE_SSH_ARGS=-F "+conf+" -o ControlMaster=auto -o ControlPersist=2s", "ANSIBLE_SSH_CONTROL_PATH_DIR="+filepath.Join(dir, "c"),
			"ANSIBLE_PIPELINING=True", "ANSIBLE_LOCAL_TEMP="+dir, "HOME="+dir, "ANSIBLE_NOCOLOR=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for file, want := range map[string]string{"copied": "copied", "touched": "", "templated": "host web01\n"} {
			if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(b) != want {
				t.Errorf("%s: %q, %v", file, b, err)
			}
		}
		// On a busy machine the connection that it keeps has ended between two tasks, and there are several sessions.
		w.ca.mu.Lock()
		sessions := w.ca.opened[g.request]
		w.ca.mu.Unlock()
		all := ""
		for i := range sessions {
			rec := w.session(g, i+1)
			all += rec.data(transcript.KindInput, 0) + strings.Join(rec.lines(), "")
		}
		if !strings.Contains(all, "copied") {
			t.Error("what was copied is not recorded")
		}
	})
}

// What VS Code's remote shell does: a script on bash's input that starts a server and prints its port, several forwards to it at once over the same
// connection, and another command meanwhile.
func TestARemoteEditorsPattern(t *testing.T) {
	free, err := loopback.Addresses(1)
	check(t, err)
	there := free[0]
	w := newWorld(t)
	w.allowing("local " + there)
	l, err := net.Listen("tcp", there)
	check(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	for _, door := range []string{"hop", "jump", "user"} {
		t.Run(door, func(t *testing.T) {
			w := *w
			w.t = t
			g := w.grantFor("web01", w.login, "127.0.0.1", time.Now(), time.Hour)
			conf, target := w.through(door, g)
			here, err := loopback.Addresses(1)
			check(t, err)
			cmd := exec.Command("ssh", "-F", conf, "-D", here[0], "-o", "ExitOnForwardFailure=yes", target, "bash", "-s")
			cmd.Stdin = strings.NewReader("# " + strings.Repeat("a long script\n# ", 2000) + "\necho listening; sleep 30\n")
			seen := &watched{}
			cmd.Stdout = seen
			check(t, cmd.Start())
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			until(t, seen, "listening")
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					c, err := socks(here[0], there)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					word := bytes.Repeat(fmt.Appendf(nil, "forward %d.", i), 1000)
					go c.Write(word)
					got := make([]byte, len(word))
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, word) {
						t.Errorf("%d: %v", i, err)
					}
				})
			}
			wg.Wait()
			// One to where the grant doesn't name: refused, and the rest goes on.
			if c, err := socks(here[0], "127.0.0.1:1"); err == nil {
				c.Close()
				t.Error("a forward that the grant doesn't name was opened")
			}
			cmd.Process.Kill()
			cmd.Wait()
			rec := w.session(g, 1)
			rec.has("denied person direct-tcpip")
			for i := range 8 {
				word := strings.Repeat(fmt.Sprintf("forward %d.", i), 1000)
				if !strings.Contains(rec.data(transcript.KindInput, 0), word) && !inSomeChannel(rec, transcript.KindInput, word) || !inSomeChannel(rec, transcript.KindOutput, word) {
					t.Errorf("forward %d is not in the recording, both ways", i)
				}
			}
		})
	}
}

func inSomeChannel(r *recording, k transcript.Kind, word string) bool {
	for ch := uint32(1); ch < 40; ch++ {
		if r.data(k, ch) == word {
			return true
		}
	}
	return false
}

// socks connects over a SOCKS5 proxy without authentication (RFC 1928), as `ssh -D` is one.
func socks(proxy, to string) (net.Conn, error) {
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	host, port, _ := net.SplitHostPort(to)
	p, _ := strconv.Atoi(port)
	c.Write([]byte{5, 1, 0})
	b := make([]byte, 10)
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		c.Close()
		return nil, err
	}
	c.Write(append(append([]byte{5, 1, 0, 1}, net.ParseIP(host).To4()...), byte(p>>8), byte(p)))
	if _, err := io.ReadFull(c, b); err != nil || b[1] != 0 {
		c.Close()
		return nil, fmt.Errorf("socks: %v, answer %d", err, b[1])
	}
	return c, nil
}
