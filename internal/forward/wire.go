package forward

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// This file reads what clients and hosts say of forwards on the wire: the extra data of a channel open, the payload of a global request. Each
// gives exactly one Forward, or an error: what can't be written as a policy writes it can't have been allowed.

// Types of channels and global requests that are forwards.
const (
	OpenLocal      = "direct-tcpip"
	OpenLocalUnix  = "direct-streamlocal@openssh.com"
	OpenRemote     = "forwarded-tcpip"
	OpenRemoteUnix = "forwarded-streamlocal@openssh.com"
	Listen         = "tcpip-forward"
	ListenUnix     = "streamlocal-forward@openssh.com"
	Cancel         = "cancel-tcpip-forward"
	CancelUnix     = "cancel-streamlocal-forward@openssh.com"
)

// Of gives the forward that a channel open or a global request of the type is about. OpenRemote and OpenRemoteUnix, which a host sends, give
// the forward on which they came.
func Of(typ string, data []byte) (Forward, error) {
	switch typ {
	case OpenLocal:
		return dial(Local, data)
	case OpenRemote:
		return dial(Remote, data)
	case Listen, Cancel:
		var m struct {
			Bind string
			Port uint32
		}
		if err := ssh.Unmarshal(data, &m); err != nil {
			return Forward{}, fmt.Errorf("%w: malformed %s", ErrInvalid, typ)
		}
		return address(Remote, m.Bind, m.Port)
	case OpenLocalUnix:
		var m struct {
			Path, Reserved string
			Port           uint32
		}
		if err := ssh.Unmarshal(data, &m); err != nil {
			return Forward{}, fmt.Errorf("%w: malformed %s", ErrInvalid, typ)
		}
		return Parse(string(LocalUnix) + " " + m.Path)
	case OpenRemoteUnix:
		var m struct{ Path, Reserved string }
		if err := ssh.Unmarshal(data, &m); err != nil {
			return Forward{}, fmt.Errorf("%w: malformed %s", ErrInvalid, typ)
		}
		return Parse(string(RemoteUnix) + " " + m.Path)
	case ListenUnix, CancelUnix:
		var m struct{ Path string }
		if err := ssh.Unmarshal(data, &m); err != nil {
			return Forward{}, fmt.Errorf("%w: malformed %s", ErrInvalid, typ)
		}
		return Parse(string(RemoteUnix) + " " + m.Path)
	}
	return Forward{}, fmt.Errorf("%w: %q is no forward", ErrInvalid, typ)
}

// dial reads the data of direct-tcpip and forwarded-tcpip (RFC 4254 section 7.2): an address, and the originator's, which is whatever the
// other side says.
func dial(k Kind, data []byte) (Forward, error) {
	var m struct {
		Host       string
		Port       uint32
		Originator string
		From       uint32
	}
	if err := ssh.Unmarshal(data, &m); err != nil {
		return Forward{}, fmt.Errorf("%w: malformed %s", ErrInvalid, k)
	}
	return address(k, m.Host, m.Port)
}

// address writes an address of the wire as a policy does. An empty bind address ("all protocol families") is 0.0.0.0 and :: in one, and no
// policy can say that: it is refused.
func address(k Kind, host string, port uint32) (Forward, error) {
	if host == "" && k == Remote {
		return Forward{}, fmt.Errorf("%w: listening on every address: name one, as in -R localhost:PORT:… or -R 0.0.0.0:PORT:…", ErrInvalid)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return Parse(fmt.Sprintf("%s %s:%d", k, host, port))
}
