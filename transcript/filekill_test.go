package transcript

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"breakglass/internal/name"
)

// childEnv makes the test binary the store that is killed; its value is the directory.
const childEnv = "BREAKGLASS_TEST_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, putUntilKilled(dir))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

const killed = name.SessionID("k7f-2mq/1")

// flow is the stream that is stored.
func flow() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

// putUntilKilled stores pieces from where the store stands, and writes each size that was acknowledged to stdout.
func putUntilKilled(dir string) error {
	s, err := NewFileStore(dir)
	if err != nil {
		return err
	}
	st, err := s.Stat(killed)
	if err != nil && st.Size != 0 {
		return err
	}
	from := flow()
	if _, err := io.CopyN(io.Discard, from, st.Size); err != nil {
		return err
	}
	at := st.Size
	b := make([]byte, 1<<20)
	for i := 1; ; i++ {
		piece := b[:1+(i*7919)%len(b)]
		from.Read(piece)
		size, err := s.Put(killed, at, piece)
		if err != nil || size != at+int64(len(piece)) {
			return fmt.Errorf("%d at %d: %d, %w", len(piece), at, size, err)
		}
		at = size
		os.Stdout.Write(binary.BigEndian.AppendUint64(nil, uint64(at))) // one write: whole or not at all
	}
}

// The store is killed in the middle of storing, again and again: it has what it acknowledged, what it has is the stream, and it goes on from there.
func TestStoreKilledInTheMiddle(t *testing.T) {
	rounds, acked, total := 6, int64(0), int64(0)
	if n, err := strconv.Atoi(os.Getenv("N")); err == nil && n > rounds {
		rounds = n
	}
	var dir string
	for round := range rounds {
		if round%20 == 0 { // each round reads all of it
			total += acked
			dir, acked = t.TempDir(), 0
		}
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
		timer := time.AfterFunc(time.Duration(60+round*17%50)*time.Millisecond, func() { cmd.Process.Kill() })
		r := bufio.NewReader(out)
		for {
			var b [8]byte
			if _, err := io.ReadFull(r, b[:]); err != nil {
				break
			}
			acked = int64(binary.BigEndian.Uint64(b[:]))
		}
		cmd.Wait()
		timer.Stop()
		s, err := NewFileStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.Stat(killed)
		if err != nil && acked > 0 || st.Size < acked || st.Finished {
			t.Fatalf("round %d: %+v, %v; %d were acknowledged", round, st, err, acked)
		}
		if st.Size == 0 {
			continue
		}
		f, err := s.Open(killed)
		if err != nil {
			t.Fatal(err)
		}
		from, a, b := flow(), make([]byte, 64<<10), make([]byte, 64<<10)
		for left := st.Size; left > 0; {
			n := int(min(left, int64(len(a))))
			from.Read(b[:n])
			if _, err := io.ReadFull(f, a[:n]); err != nil || string(a[:n]) != string(b[:n]) {
				t.Fatalf("round %d: other bytes, %d before the end of %d (%v)", round, left, st.Size, err)
			}
			left -= int64(n)
		}
		f.Close()
	}
	if total += acked; total == 0 {
		t.Error("every store was killed before it stored anything")
	}
	t.Logf("%d kills, %d bytes acknowledged, 0 missing", rounds, total)
}
