package jump

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	front "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
	"breakglass/internal/name"
	"breakglass/transcript"
)

// way is how a connection leads to a host. What comes behind is the same for all: the CA's entry, the recorder, the host.
type way int

const (
	wayHop   way = iota // a preamble names the host: its certificate is shown
	wayUser             // the user name is LOGIN@HOST: `ssh root@web01@jump`. The key exchange came before it, so the host key shown is the jump's own
	wayInner            // on a channel of another connection: `ssh -J jump root@web01`
	wayPlain            // nothing names the host but the certificate. It may still become what wayOuter is: which, its first channel tells
	wayOuter            // of another user name than any login: it carries inner connections, and nothing else
)

const (
	// plainWait is how long a plain connection may do nothing before its session is opened: `ssh -N` opens no channel at first.
	plainWait = 3 * time.Second
	// outerIdle is how long a connection that leads nowhere is kept; stock ssh asks for its channel at once.
	outerIdle = time.Minute
	// maxOuters bounds connections that carry inner ones; maxInner the inner ones of each.
	maxOuters = 1024
	// maxOutersPerPerson: nobody takes the places of all others.
	maxOutersPerPerson = 64
	maxInner           = 32
)

// words are how statement and header name a way.
func (w way) words() (door, header string) {
	switch w {
	case wayUser:
		return "user", transcript.DoorUser
	case wayInner:
		return "jump", transcript.DoorIntercept
	case wayPlain:
		return "direct", transcript.DoorHop
	}
	return "preamble", transcript.DoorHop
}

// fit says which way a claim leads on this connection under that user name.
func (d *doorConn) fit(c *claim, user string) (way, *refusal) {
	switch {
	case d.outer != nil:
		if c.person != d.outer.claim.person { // whoever proved the outer key answers for what comes through it
			return 0, &refusal{refusedPerson, nil}
		}
		return wayInner, c.names(user, d.host)
	case d.host != "":
		return wayHop, c.names(user, d.host)
	case strings.Contains(user, "@"):
		login, host, _ := strings.Cut(user, "@") // a second @ is in no host's name
		h, err := name.ParseHost(host)
		if err != nil {
			return 0, &refusal{refusedHost, err}
		}
		return wayUser, c.names(login, h)
	case user == string(c.grant.Login):
		return wayPlain, nil
	}
	return wayOuter, nil
}

// names holds the claim against the login and host that were asked for.
func (c *claim) names(login string, host name.Host) *refusal {
	switch {
	case login != string(c.grant.Login):
		return &refusal{refusedLogin, nil}
	case host != c.grant.Host:
		return &refusal{refusedHost, nil}
	}
	return nil
}

// lobby is a proven connection before it is known what it becomes. A session opened at the door stands in it from the start.
type lobby struct {
	j     *Jump
	d     *doorConn
	ctx   context.Context
	claim *claim
	id    []byte // of the SSH session

	eager   *session // opened at the door
	once    sync.Once
	session *session // by once
	err     error

	opens   pending
	flooded atomic.Bool

	mu      sync.Mutex
	begun   bool // a session was opened, or is being
	inner   int  // connections that it carries
	carried bool // it has carried some, and becomes no session by itself
	left    bool // its place among the outer ones is free
	waiting []*ssh.Request
	timer   *time.Timer
}

// newLobby is for a connection whose session isn't opened yet.
func (j *Jump) newLobby(ctx front.Context, d *doorConn, c *claim, id []byte) (*lobby, error) {
	if !j.caps.enterOuter(c.person) {
		return nil, say(errors.New("too many connections"), "this jump is full", j.elsewhere(target(c)))
	}
	l := &lobby{j: j, d: d, ctx: ctx, claim: c, id: id}
	wait := outerIdle
	if d.way == wayPlain {
		wait = plainWait
	}
	l.mu.Lock()
	l.timer = time.AfterFunc(wait, l.late)
	l.mu.Unlock()
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.free()
	})
	return l, nil
}

// free gives its place among the outer ones back, with l.mu held.
func (l *lobby) free() {
	l.timer.Stop()
	if !l.left {
		l.left = true
		l.j.caps.leaveOuter(l.claim.person)
	}
}

// late is called when nothing happened for a while.
func (l *lobby) late() {
	defer l.guard()
	l.mu.Lock()
	idle, session := l.inner == 0 && !l.begun, l.d.way == wayPlain && !l.carried
	l.mu.Unlock()
	switch {
	case !idle:
	case session:
		if _, err := l.open(); err != nil {
			l.d.Close()
		}
	default:
		l.d.Close()
	}
}

func (l *lobby) guard() {
	if v := recover(); v != nil {
		l.j.log.Error("panic at the door", "panic", v, "stack", string(debug.Stack()))
		l.d.Close()
	}
}

// open opens the session, once; whoever else asks waits for it.
func (l *lobby) open() (*session, error) {
	l.once.Do(func() {
		l.mu.Lock()
		l.begun = true
		l.free()
		l.mu.Unlock()
		if l.session, l.err = l.j.openSession(l.ctx, l.d, l.claim, l.id); l.err != nil {
			return
		}
		s := l.session
		context.AfterFunc(l.ctx, func() { s.close(endClosed) })
		l.mu.Lock()
		waiting := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		for _, req := range waiting {
			s.globalRequest(l.conn(), req)
		}
	})
	return l.session, l.err
}

// conn is the proven connection.
func (l *lobby) conn() ssh.Conn {
	c, _ := l.ctx.Value(front.ContextKeyConn).(*ssh.ServerConn)
	return c
}

// flood ends a connection that asks for too much.
func (l *lobby) flood() {
	defer l.guard()
	l.j.log.Warn("channels are opened faster than they can be answered; cut", "person", l.claim.person, "request", l.claim.grant.Request, "peer", l.claim.peer)
	if s := l.running(); s != nil {
		s.cut(endFlood, floodText)
	}
	l.d.Close()
}

// running is the session, if there is one already.
func (l *lobby) running() *session {
	if l.eager != nil {
		return l.eager
	}
	l.mu.Lock()
	begun := l.begun
	l.mu.Unlock()
	if !begun {
		return nil
	}
	s, err := l.open() // waits for whoever opens it
	if err != nil {
		return nil
	}
	return s
}

// channel is a channel that the person's client opens.
func (l *lobby) channel(nc ssh.NewChannel) {
	defer l.guard()
	defer l.opens.leave()
	if !l.opens.enter() {
		nc.Reject(ssh.ResourceShortage, "breakglass: too many channels at once")
		if !l.flooded.Swap(true) {
			go l.flood()
		}
		return
	}
	if l.eager != nil {
		l.eager.serveChannel(nc)
		return
	}
	host, ok := innerHost(nc)
	switch {
	case ok && l.enter():
		l.intercept(nc, host)
		return
	case l.d.way == wayOuter && ok:
		nc.Reject(ssh.ResourceShortage, fmt.Sprintf("breakglass: no more than %d hosts over one connection", maxInner))
		return
	case l.d.way == wayOuter:
		nc.Reject(ssh.Prohibited, fmt.Sprintf("breakglass: this connection leads to hosts by their names: ssh -J %s LOGIN@HOST", l.j.cfg.Name))
		return
	}
	s, err := l.open()
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, oneLine(err))
		return
	}
	s.serveChannel(nc)
}

// enter counts an inner connection in, unless this connection is a session, or carries too many.
func (l *lobby) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun || l.inner >= maxInner || l.d.way != wayOuter && l.d.way != wayPlain {
		return false
	}
	l.inner++
	l.carried = true
	l.timer.Stop()
	return true
}

func (l *lobby) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner--; l.inner == 0 && !l.begun {
		l.timer.Reset(outerIdle)
	}
}

// globalRequest is a global request of the person's client.
func (l *lobby) globalRequest(person ssh.Conn, req *ssh.Request) (bool, []byte) {
	s := l.eager
	if s == nil {
		switch req.Type {
		case keepalive:
			return true, nil
		case forward.Listen, forward.ListenUnix, forward.Cancel, forward.CancelUnix:
			if l.d.way != wayPlain {
				return false, nil
			}
			var err error
			if s, err = l.open(); err != nil {
				return false, nil
			}
		default:
			// It may have overtaken the channel that opens the session: then it is the session's first.
			l.mu.Lock()
			if len(l.waiting) < maxWaiting && !req.WantReply && l.d.way == wayPlain && !l.begun {
				l.waiting = append(l.waiting, req)
				l.mu.Unlock()
				return false, nil
			}
			begun := l.begun
			l.mu.Unlock()
			if !begun {
				return false, nil
			}
			var err error
			if s, err = l.open(); err != nil {
				return false, nil
			}
		}
	}
	return s.globalRequest(person, req)
}

// maxWaiting bounds the requests that wait for a session: stock ssh sends one, no-more-sessions.
const maxWaiting = 4

// oneLine is what openSession tells, for a place that has one line.
func oneLine(err error) string {
	var banner *ssh.BannerError
	if !errors.As(err, &banner) {
		return "breakglass: the session can't be opened"
	}
	return clip(strings.ReplaceAll(strings.TrimSpace(banner.Message), "\n", "; "))
}

// innerHost reads a direct-tcpip channel that may be an inner connection's: to port 22 of a name, as `ssh -J` asks for it.
func innerHost(nc ssh.NewChannel) (name.Host, bool) {
	if nc.ChannelType() != forward.OpenLocal {
		return "", false
	}
	f, err := forward.Of(nc.ChannelType(), nc.ExtraData())
	if err != nil || f.Port != sshPort {
		return "", false
	}
	h, err := name.ParseHost(f.Host)
	return h, err == nil && !isAddress(f.Host)
}
