package connect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/ledger"
)

// jumpThat answers each connection's preamble as behave does, and gives its address.
func jumpThat(t *testing.T, behave func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				got := make([]byte, len(Preamble("web01")))
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, Preamble("web01")) {
					return
				}
				behave(c)
			}()
		}
	}()
	return l.Addr().String()
}

// hold keeps a connection until the other side leaves.
func hold(c net.Conn) { io.Copy(io.Discard, c) }

func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, text)
		hold(c)
	}
}

func refuses(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const works = "SSH-2.0-breakglass\r\n"

// Whatever is wrong with the jumps before it, the one that works is taken, and ssh gets all that it says.
func TestTheJumpThatAnswersIsTaken(t *testing.T) {
	for what, bad := range map[string]string{
		"refuses":                     refuses(t),
		"says nothing":                jumpThat(t, hold),
		"closes":                      jumpThat(t, func(net.Conn) {}),
		"says that it goes down":      jumpThat(t, func(c net.Conn) { io.WriteString(c, "breakglass: this jump is going down\r\n") }),
		"says something and stays":    jumpThat(t, says("breakglass: this jump is full\r\n")),
		"says half an identification": jumpThat(t, says("SS")),
		"speaks another protocol":     jumpThat(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }),
		"floods":                      jumpThat(t, func(c net.Conn) { io.Copy(c, endless{}) }),
	} {
		for _, before := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d of them", what, before), func(t *testing.T) {
				t.Parallel()
				addrs := append(slices.Repeat([]string{bad}, before), jumpThat(t, says(works)))
				c, err := Dial(t.Context(), addrs, "web01")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				got := make([]byte, len(works))
				if _, err := io.ReadFull(io.MultiReader(bytes.NewReader(c.head), c.TCPConn), got); err != nil || string(got) != works {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A jump that takes its time but answers is taken where there is no other.
func TestASlowJumpIsWaitedFor(t *testing.T) {
	slow := jumpThat(t, func(c net.Conn) {
		for _, b := range []byte(works) {
			c.Write([]byte{b})
			time.Sleep(50 * time.Millisecond)
		}
		hold(c)
	})
	c, err := Dial(t.Context(), []string{refuses(t), slow}, "web01")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, len(works))
	if _, err := io.ReadFull(io.MultiReader(bytes.NewReader(c.head), c.TCPConn), got); err != nil || string(got) != works {
		t.Errorf("%q, %v", got, err)
	}
}

// Where none lets anybody in, each says why.
func TestWhyNobodyIsLetIn(t *testing.T) {
	down, full := refuses(t), jumpThat(t, func(c net.Conn) { io.WriteString(c, "breakglass: this jump is full\r\n") })
	_, err := Dial(t.Context(), []string{down, full}, "web01")
	if !errors.Is(err, ErrNoJump) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{down, full + `: it says "this jump is full"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestOrder(t *testing.T) {
	var jumps []ledger.SiteJump
	for i := range 10 {
		jumps = append(jumps, ledger.SiteJump{Name: name.Jump(fmt.Sprintf("jump-%c", 'a'+i)), Addresses: []string{fmt.Sprintf("192.0.2.%d:22", i), fmt.Sprintf("[2001:db8::%d]:22", i)}})
	}
	first := map[string]int{}
	moved := 0
	for p := range 1000 {
		person := name.Person(fmt.Sprintf("person%d", p))
		all := Order(person, jumps)
		if len(all) != 20 || all[0][:8] != "192.0.2." || all[0][8:9] != strings.TrimPrefix(all[1], "[2001:db8::")[:1] {
			t.Fatalf("addresses of a jump aren't together: %v", all)
		}
		backwards := slices.Clone(jumps)
		slices.Reverse(backwards)
		if got := Order(person, backwards); !slices.Equal(got, all) {
			t.Fatalf("%s: the order hangs on the list's: %v, %v", person, all, got)
		}
		first[all[0]]++
		// One goes away: its own people move to whoever was second, and nobody else.
		left := Order(person, jumps[1:])
		want := slices.DeleteFunc(slices.Clone(all), func(a string) bool { return slices.Contains(jumps[0].Addresses, a) })
		if !slices.Equal(left, want) {
			t.Fatalf("%s: %v without jump-a is %v", person, all, left)
		}
		if left[0] != all[0] {
			moved++
		}
	}
	for _, j := range jumps {
		// 100 each, if dice decided; these are always the same.
		if n := first[j.Addresses[0]]; n < 60 || n > 140 {
			t.Errorf("%s is first for %d of 1000", j.Name, n)
		}
	}
	if moved != first[jumps[0].Addresses[0]] {
		t.Errorf("%d moved", moved)
	}
	shared := []ledger.SiteJump{{Name: "jump-a", Addresses: []string{"192.0.2.1:22"}}, {Name: "jump-b", Addresses: []string{"192.0.2.1:22"}}}
	if got := Order("alice", shared); len(got) != 1 {
		t.Errorf("an address that two share: %v", got)
	}
}
