package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// childEnv makes the test binary the process that is killed; its value is the journal's directory.
const childEnv = "BREAKGLASS_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

// child appends from several sessions until it is killed, and writes each acknowledged entry to stdout.
func child(dir string) {
	j, rec, err := Open(Config{Dir: dir, SegmentSize: 256 << 10, Segments: 8})
	if err != nil || len(rec.Damage) > 0 {
		fmt.Fprintln(os.Stderr, err, rec.Damage)
		os.Exit(3)
	}
	var mu sync.Mutex
	for s := range 8 {
		id := sid(s + os.Getpid()*100)
		go func() {
			for i := 0; ; i++ {
				if err := j.Append(Entry{Stream: id, Data: content(id, i)}); err != nil {
					return // full
				}
				mu.Lock()
				os.Stdout.Write(binary.BigEndian.AppendUint32(id[:], uint32(i))) // one write: whole or not at all
				mu.Unlock()
			}
		}()
	}
	time.Sleep(time.Hour) // to be killed
}

// content is what entry i of a stream holds.
func content(id SID, i int) []byte {
	b := fmt.Appendf(nil, "%v %d ", id, i)
	return append(b, bytes.Repeat([]byte{byte(i)}, i*37%900)...)
}

// TestKill: kill -9 in the middle of writing, again and again; of what was acknowledged nothing is missing.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rounds, acked := count(6), 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(60+round*7%100)*time.Millisecond, func() { cmd.Process.Kill() })
		last, n := acknowledged(out, func() {})
		acked += n
		cmd.Wait()
		timer.Stop()

		j, rec, err := Open(Config{Dir: dir, SegmentSize: 256 << 10, Segments: 8})
		if err != nil || len(rec.Damage) > 0 {
			t.Fatalf("round %d: %v %v", round, err, rec.Damage)
		}
		holds(t, round, j, rec, last)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acked == 0 {
		t.Error("every child was killed before it wrote anything")
	}
	t.Logf("%d kills, %d acknowledged, 0 missing", rounds, acked)
}

// acknowledged reads what a child said was durable, until it ends: how many entries of each stream, and of all. begun is called at the first.
func acknowledged(out io.Reader, begun func()) (last map[SID]int, n int) {
	last = map[SID]int{}
	for r := bufio.NewReader(out); ; n++ {
		var b [20]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return last, n
		}
		if n == 0 {
			begun()
		}
		last[SID(b[:16])] = int(binary.BigEndian.Uint32(b[16:])) + 1
	}
}

// holds demands that the journal has all that was acknowledged, and nothing else than was written; then it is emptied.
func holds(t *testing.T, round int, j *Journal, rec Recovered, last map[SID]int) {
	t.Helper()
	for id, n := range last {
		got := read(t, j, id)
		if len(got) < n {
			t.Errorf("round %d: stream %v has %d entries, %d were acknowledged", round, id, len(got), n)
		}
		for i, e := range got {
			if !bytes.Equal(e.Data, content(id, i)) {
				t.Fatalf("round %d: entry %d of %v is %.60q", round, i, id, e.Data)
			}
		}
	}
	for _, s := range rec.Streams {
		if err := j.Forget(s.SID); err != nil {
			t.Fatal(err)
		}
	}
}
