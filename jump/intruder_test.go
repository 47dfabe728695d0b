package jump

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/sshcert"
)

// A client may show one certificate and prove another: what the first began for its login is no road for the second's.
func TestAnEarlyConnectionForAnotherLoginIsNotUsed(t *testing.T) {
	w := newWorld(t)
	key := loadKey(t, t.TempDir(), "k")
	g := sshcert.Grant{Request: "k7f-2mq", Login: name.Login(w.login), Host: "web01"}
	cert, err := sign(sshcert.NewSession(key.PublicKey(), "alice", g, parseAddrs("127.0.0.1"), false, time.Now(), sshcert.SessionSlack), sshcert.Session, w.ca.sessionCA)
	check(t, err)
	hostKey, err := parseKey(w.ca.hosts["web01"].hostKeys[0])
	check(t, err)
	o := &order{login: g.Login, host: "web01", addresses: []string{w.sshd}, hostKeys: []ssh.PublicKey{hostKey}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, login := range []string{"daemon", w.login} {
		pre := early(ctx, w.sshd, netip.Addr{}, login, hostKeyAlgorithms(o))
		up, err := o.reach(ctx, pre, netip.Addr{}, withCert(t, cert, key))
		if err != nil {
			t.Fatalf("shown %s: %v", login, err)
		}
		if u := up.client.User(); u != w.login {
			t.Errorf("shown %s: logged in as %s", login, u)
		}
		if (up == pre) != (login == w.login) {
			t.Errorf("shown %s: early connection used: %v", login, up == pre)
		}
		<-pre.done
		if login != w.login && !errors.Is(pre.err, errAnother) {
			t.Errorf("the early connection for another login went on: %v", pre.err)
		}
		up.client.Close()
	}
}

// refusing is a host that says no to each channel in words of its own.
type refusing struct {
	ssh.Conn
	before func()
}

func (r *refusing) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	r.before()
	return nil, nil, &ssh.OpenChannelError{Reason: ssh.ResourceShortage, Message: "words of the host"}
}
func (r *refusing) Close() error        { return nil }
func (r *refusing) Wait() error         { select {} }
func (r *refusing) User() string        { return "" }
func (r *refusing) SessionID() []byte   { return nil }
func (r *refusing) LocalAddr() net.Addr { return nil }

// What the host says when it refuses a channel is shown only if it was recorded.
func TestARefusalThatCannotBeRecordedIsNotPassedOn(t *testing.T) {
	fs := &failing{files: map[string]*failingFile{}}
	w := newWorld(t, func(w *world) { w.fs, w.segmentSize = fs, 4<<20 })
	for _, fails := range []bool{false, true} {
		g := w.grant()
		c := w.client(g)
		var s *session
		w.j.mu.Lock()
		for x := range w.j.sessions {
			if x.order.session == g.request.Session(1) {
				s = x
			}
		}
		w.j.mu.Unlock()
		s.mu.Lock()
		s.up = &upstream{client: &refusing{before: func() { fs.fail.Store(fails) }}}
		s.mu.Unlock()
		_, _, err := c.OpenChannel("session", nil)
		var refused *ssh.OpenChannelError
		if fails && errors.As(err, &refused) && refused.Message == "words of the host" {
			t.Error("shown, and not recorded")
		}
		if !fails && (!errors.As(err, &refused) || refused.Message != "words of the host") {
			t.Errorf("recorded, and not shown: %v", err)
		}
		c.Close()
	}
	<-w.served
	w.served <- nil
}

// One customer with all their addresses must not hold every place that strangers have.
func TestOneCustomerDoesNotHoldEveryPlace(t *testing.T) {
	c := caps{byNet: map[string]int{}}
	a := netip.MustParseAddr("2001:db8:7::1").As16()
	for i := range 2 * maxUnproven {
		a[6], a[7] = byte(i>>8), byte(i)
		c.enter(netip.AddrFrom16(a))
	}
	if c.all != maxUnprovenPerNetwork {
		t.Errorf("%d places held, want %d", c.all, maxUnprovenPerNetwork)
	}
	if !c.enter(netip.MustParseAddr("192.0.2.7")) {
		t.Error("another is refused")
	}
}
