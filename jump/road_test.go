package jump

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"breakglass/transcript"
)

func TestACommandRunsAndIsRecorded(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	r := w.ssh(g, strings.NewReader("typed"), "cat; echo out; echo err >&2; exit 3")
	if r.code != 3 || r.stdout != "typedout\n" || r.stderr != "err\n" {
		t.Fatalf("ssh: %+v", r)
	}
	rec := w.session(g, 1)
	if got := rec.data(transcript.KindInput, 1); got != "typed" {
		t.Errorf("input %q", got)
	}
	if got := rec.data(transcript.KindOutput, 1); got != "typedout\n" {
		t.Errorf("output %q", got)
	}
	if got := rec.data(transcript.KindStderr, 1); got != "err\n" {
		t.Errorf("stderr %q", got)
	}
	rec.has("1 asked person exec", "cat; echo out")
	rec.has("1 done person exec")
	rec.has("1 asked host exit-status", `"\x00\x00\x00\x03"`)
	rec.has("0 denied host hostkeys-00@openssh.com")
	if rec.end == nil || rec.end.Exit == nil || *rec.end.Exit != 3 || rec.end.Reason != endClosed {
		t.Errorf("end %+v", rec.end)
	}
	e := w.ended(g, 1)
	if e.Exit != "3" || e.BytesIn != 5 || e.BytesOut != 13 {
		t.Errorf("fact %+v", e)
	}
}

func TestTenMegabytesEachWay(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	in := make([]byte, 10<<20)
	rand.Read(in)
	r := w.ssh(g, bytes.NewReader(in), "cat")
	if r.code != 0 || sha256.Sum256([]byte(r.stdout)) != sha256.Sum256(in) {
		t.Fatalf("code %d, %d bytes of %d; %s", r.code, len(r.stdout), len(in), r.stderr)
	}
	rec := w.session(g, 1)
	for _, k := range []transcript.Kind{transcript.KindInput, transcript.KindOutput} {
		if sha256.Sum256([]byte(rec.data(k, 1))) != sha256.Sum256(in) {
			t.Errorf("recorded %c differs", k)
		}
	}
}

func TestWhatStockToolsSee(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		is      string
		args    []string // before the host: options; the rest is the command
		command []string
		stdin   string
		code    int
		stdout  string
		stderr  string
		line    []string // in the recording
	}{
		{"exit 0", nil, []string{"true"}, "", 0, "", "", []string{"exit-status", `\x00\x00\x00\x00`}},
		{"exit 1", nil, []string{"false"}, "", 1, "", "", []string{"exit-status", `\x00\x00\x00\x01`}},
		{"exit 255", nil, []string{"exit 255"}, "", 255, "", "", []string{"exit-status", `\x00\x00\x00\xff`}},
		{"a signal", nil, []string{"kill -TERM $$"}, "", 255, "", "", []string{"exit-signal", "TERM"}},
		{"stderr apart", nil, []string{"echo a; echo b >&2"}, "", 0, "a\n", "b\n", nil},
		{"half-close: output after the end of input", nil, []string{"cat; sleep 0.2; echo late"}, "in", 0, "inlate\n", "", []string{"1 F person"}},
		{"eight bits", nil, []string{`printf '\000\377\r\n\033[0m'`}, "", 0, "\x00\xff\r\n\x1b[0m", "", nil},
		{"environment as the host accepts it", []string{"-o", "SetEnv=GOOD=yes BAD=no"}, []string{"echo $GOOD/$BAD"}, "", 0, "yes/\n", "", []string{"asked person env", "BAD"}},
		{"output closed long before the exit", nil, []string{"exec >&- 2>&-; cat; sleep 0.3; exit 9"}, "in", 9, "", "", nil},
		{"a host that doesn't read", nil, []string{"exec 0<&-; sleep 0.1; exit 4"}, strings.Repeat("x", 4<<20), 4, "", "", nil},
		{"a subsystem that isn't there", []string{"-s"}, []string{"nosuch"}, "", 255, "", "subsystem request failed on channel 0\n", []string{"refused person subsystem"}},
		{"no command, no channel: -N ends with its connection", []string{"-N", "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=1", "-R", "0:127.0.0.1:1", "-o", "ExitOnForwardFailure=yes"}, nil, "", 255, "",
			"Error: remote port forwarding failed for listen port 0\n", []string{"denied person tcpip-forward", "is not in this grant"}},
		{"port forwarding: -W", []string{"-W", "127.0.0.1:1"}, nil, "", 255, "", "channel 0: open failed: administratively prohibited: breakglass: the forward \"local 127.0.0.1:1\" is not in this grant; ask for it: breakglass request --forward \"local 127.0.0.1:1\" " + w.login + "@web01\nstdio forwarding failed\n",
			[]string{"denied person direct-tcpip", "is not in this grant"}},
		{"agent forwarding is refused, the command runs", []string{"-A"}, []string{"echo [$SSH_AUTH_SOCK]"}, "", 0, "[]\n", "", nil},
	} {
		t.Run(c.is, func(t *testing.T) {
			eachDoor(t, w, func(t *testing.T, w *world, door string) {
				g := w.grant()
				conf, target := w.through(door, g)
				args := append(append([]string{"-F", conf}, c.args...), target)
				r := run(t, strings.NewReader(c.stdin), "ssh", append(args, c.command...)...)
				r.stderr = strings.ReplaceAll(r.stderr, "\r\n", "\n") // ssh's own lines
				if r.code != c.code || r.stdout != c.stdout || r.stderr != c.stderr {
					t.Errorf("got %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
				}
				rec := w.session(g, 1)
				if c.line != nil {
					rec.has(c.line...)
				}
				if got := rec.data(transcript.KindOutput, 0); got != c.stdout {
					t.Errorf("recorded output %q", got)
				}
				if rec.end == nil {
					t.Error("no end")
				}
			})
		})
	}
}

func TestFilesByEveryTool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := filepath.Join(t.TempDir(), "src")
	check(t, os.MkdirAll(src, 0o755))
	want := map[string][]byte{}
	for i := range 100 {
		b := make([]byte, i*700)
		rand.Read(b)
		want[fmt.Sprintf("f%02d", i)] = b
		check(t, os.WriteFile(filepath.Join(src, fmt.Sprintf("f%02d", i)), b, 0o644))
	}
	same := func(t *testing.T, dir string) {
		t.Helper()
		for n, b := range want {
			got, err := os.ReadFile(filepath.Join(dir, n))
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("%s: %d bytes of %d, %v", n, len(got), len(b), err)
			}
		}
	}
	for _, c := range []struct {
		is   string
		put  func(conf, host, dst string) []string
		get  func(conf, host, from, dst string) []string
		line []string
	}{
		{"scp", func(f, h, d string) []string { return []string{"scp", "-q", "-F", f, "-r", src, h + ":" + d} },
			func(f, h, s, d string) []string { return []string{"scp", "-q", "-F", f, "-r", h + ":" + s, d} }, []string{"person subsystem", "sftp"}},
		{"scp -O", func(f, h, d string) []string { return []string{"scp", "-q", "-O", "-F", f, "-r", src, h + ":" + d} },
			func(f, h, s, d string) []string { return []string{"scp", "-q", "-O", "-F", f, "-r", h + ":" + s, d} }, []string{"person exec", "scp"}},
		{"rsync", func(f, h, d string) []string {
			return []string{"rsync", "-a", "-e", "ssh -F " + f, src + "/", h + ":" + d}
		},
			func(f, h, s, d string) []string {
				return []string{"rsync", "-a", "-e", "ssh -F " + f, h + ":" + s + "/", d}
			}, []string{"person exec", "rsync"}},
		{"sftp", func(f, h, d string) []string {
			return []string{"sh", "-c", fmt.Sprintf("printf 'put -r %s %s\\n' | sftp -q -F %s -b - %s", src, d, f, h)}
		}, func(f, h, s, d string) []string {
			return []string{"sh", "-c", fmt.Sprintf("printf 'get -r %s %s\\n' | sftp -q -F %s -b - %s", s, d, f, h)}
		}, []string{"person subsystem", "sftp"}},
	} {
		t.Run(c.is, func(t *testing.T) {
			if _, err := exec.LookPath(c.put("", "", "")[0]); err != nil {
				t.Skip(err)
			}
			eachDoor(t, w, func(t *testing.T, w *world, door string) {
				g := w.grant()
				conf, host := w.through(door, g)
				there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
				for i, cmd := range [][]string{c.put(conf, host, there), c.get(conf, host, there, back)} {
					if r := run(t, nil, cmd[0], cmd[1:]...); r.code != 0 {
						t.Fatalf("%v: %+v", cmd, r)
					}
					rec := w.session(g, i+1)
					rec.has(c.line...)
				}
				same(t, there)
				same(t, back)
			})
		})
	}
	t.Run("git clone and push", func(t *testing.T) {
		eachDoor(t, w, func(t *testing.T, w *world, door string) {
			g := w.grant()
			conf, host := w.through(door, g)
			bare, work := filepath.Join(t.TempDir(), "r.git"), filepath.Join(t.TempDir(), "w")
			script := fmt.Sprintf(`set -e; export GIT_SSH_COMMAND='ssh -F %s' GIT_CONFIG_GLOBAL=/dev/null
git init -q --bare %s; git clone -q %s:%s %s 2>/dev/null; cd %s; cp %s/f99 .; git add f99; git -c user.name=a -c user.email=a@a commit -qm x; git push -q origin HEAD:main
git --git-dir %s cat-file blob main:f99 | cmp - f99`, conf, bare, host, bare, work, work, src, bare)
			if r := run(t, nil, "sh", "-c", script); r.code != 0 {
				t.Fatalf("%+v", r)
			}
			w.session(g, 1).has("person exec", "git-upload-pack")
			w.session(g, 2).has("person exec", "git-receive-pack")
		})
	})
}

// ssh on a terminal: what a person types arrives, resizes arrive, Ctrl-C arrives, and they are told that it is recorded.
func TestATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.grant()
	cmd := exec.Command("ssh", append(w.config(g), "web01")...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	check(t, err)
	defer f.Close()
	var mu sync.Mutex
	var seen bytes.Buffer
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			mu.Lock()
			seen.Write(b[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	expect := func(what string) {
		t.Helper()
		for range 500 {
			mu.Lock()
			s := seen.String()
			mu.Unlock()
			if strings.Contains(s, what) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		t.Fatalf("no %q in %q", what, seen.String())
	}
	expect("is recorded, all of it, as " + string(g.request) + "/1")
	expect("until ")
	f.Write([]byte("stty size; echo rea''dy\n"))
	expect("24 80")
	expect("ready")
	check(t, pty.Setsize(f, &pty.Winsize{Rows: 41, Cols: 132}))
	time.Sleep(100 * time.Millisecond)
	f.Write([]byte("stty size\n"))
	expect("41 132")
	f.Write([]byte("sleep 600; echo stat''us $?\n"))
	time.Sleep(300 * time.Millisecond)
	f.Write([]byte{3})
	f.Write([]byte("echo caught $?\n"))
	expect("caught 130")
	f.Write([]byte("exit 7\n"))
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v", err)
	}
	rec := w.session(g, 1)
	rec.has("person pty-req")
	rec.has("asked person window-change", `\x00\x00\x00\x84\x00\x00\x00)`)
	rec.has("mark breakglass: alice on web01")
	if !strings.Contains(rec.data(transcript.KindOutput, 0), "41 132") || !strings.Contains(rec.data(transcript.KindInput, 0), "\x03") {
		t.Error("what was seen or typed is not recorded")
	}
	if strings.Contains(rec.data(transcript.KindOutput, 0), "is recorded") {
		t.Error("our own lines count as the host's")
	}
}

func TestControlMasterWithThirtySessions(t *testing.T) {
	t.Parallel()
	eachDoor(t, newWorld(t), func(t *testing.T, w *world, door string) {
		g := w.grant()
		ctl := filepath.Join(t.TempDir(), "c")
		conf, host := w.through(door, g)
		master := exec.Command("ssh", "-F", conf, "-M", "-N", "-S", ctl, host)
		check(t, master.Start())
		for range 500 {
			if _, err := os.Stat(ctl); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				r := run(t, strings.NewReader(fmt.Sprint("n", i)), "ssh", "-F", conf, "-S", ctl, host, "cat")
				if r.code != 0 || r.stdout != fmt.Sprint("n", i) {
					t.Errorf("%d: %+v", i, r)
				}
			})
		}
		wg.Wait()
		run(t, nil, "ssh", "-F", conf, "-S", ctl, "-O", "exit", host)
		master.Wait()
		rec := w.session(g, 1)
		all := map[string]bool{}
		for ch := uint32(1); ch <= 30; ch++ {
			if in := rec.data(transcript.KindInput, ch); in == "" || in != rec.data(transcript.KindOutput, ch) {
				t.Errorf("channel %d: %q in, %q out", ch, in, rec.data(transcript.KindOutput, ch))
			} else {
				all[in] = true
			}
		}
		if len(all) != 30 {
			t.Errorf("%d of 30 inputs recorded", len(all))
		}
	})
}

func TestStderrIsNotLostBehindASlowReader(t *testing.T) {
	w := newWorld(t)
	g := w.grant()
	r := run(t, nil, "sh", "-c", "ssh -F "+w.config(g)[1]+" web01 'head -c 6000000 /dev/zero >&2; echo done' 2>&1 >/dev/null | (sleep 1; wc -c)")
	if strings.TrimSpace(r.stdout) != "6000000" {
		t.Errorf("%+v", r)
	}
	if n := len(w.session(g, 1).data(transcript.KindStderr, 0)); n != 6000000 {
		t.Errorf("recorded %d", n)
	}
}
