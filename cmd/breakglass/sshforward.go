package main

import (
	"strings"

	"breakglass/internal/forward"
)

// This file reads the forwards that somebody gives stock ssh (-L, -R, -W; ssh(1)), so that the request asks for them without their being typed
// twice. What it can't read, -D above all, whose destinations nobody knows before, it leaves to --forward: a forward too few is refused at the
// jump with the words to type, one too many would be signed for nothing.

// forwardsOf gives the texts of ssh's own forwards among its options.
func forwardsOf(options []string) []string {
	var out []string
	for i := 0; i+1 < len(options); i++ {
		var f string
		switch options[i] {
		case "-L":
			f = localOf(fields(options[i+1]))
		case "-R":
			f = remoteOf(fields(options[i+1]))
		case "-W":
			if w := fields(options[i+1]); len(w) == 2 {
				f = destination(w[0], w[1])
			}
		default:
			continue
		}
		if p, err := forward.Parse(f); err == nil {
			out = append(out, p.String())
		}
		i++
	}
	return out
}

// allowsForward tells whether a grant's forwards, as the CA wrote them, have the one.
func allowsForward(granted []string, asked string) bool {
	want, err := forward.Parse(asked)
	if err != nil {
		return false
	}
	for _, s := range granted {
		if f, err := forward.Parse(s); err == nil && f.Allows(want) {
			return true
		}
	}
	return false
}

// fields cuts at ':' and, as ssh does, at '/' where one stands for it; not within brackets, and a socket's path is one field.
func fields(s string) []string {
	var out []string
	for s != "" {
		switch {
		case s[0] == '[':
			end := strings.IndexByte(s, ']')
			if end < 0 {
				return nil
			}
			out, s = append(out, s[:end+1]), s[end+1:]
		case s[0] == '/':
			end := strings.IndexByte(s, ':')
			if end < 0 {
				return append(out, s)
			}
			out, s = append(out, s[:end]), s[end:]
		default:
			end := strings.IndexByte(s, ':')
			if end < 0 {
				return append(out, s)
			}
			out, s = append(out, s[:end]), s[end:]
		}
		if s != "" {
			if s[0] != ':' {
				return nil
			}
			if s = s[1:]; s == "" {
				return append(out, "")
			}
		}
	}
	return out
}

func isPath(s string) bool { return strings.HasPrefix(s, "/") }

// destination writes HOST and PORT as a local forward.
func destination(host, port string) string { return string(forward.Local) + " " + host + ":" + port }

// localOf is where -L goes: [bind:]port:host:hostport, [bind:]port:socket, socket:host:hostport, socket:socket.
func localOf(f []string) string {
	switch n := len(f); {
	case n >= 2 && isPath(f[n-1]):
		return string(forward.LocalUnix) + " " + f[n-1]
	case n == 3 || n == 4:
		return destination(f[n-2], f[n-1])
	}
	return ""
}

// remoteOf is where -R listens; without a bind address ssh asks for localhost.
func remoteOf(f []string) string {
	switch {
	case len(f) == 0:
		return ""
	case isPath(f[0]):
		return string(forward.RemoteUnix) + " " + f[0]
	}
	bind, port := "localhost", f[0]
	// A bind address is there if what is behind it is not the whole destination: port; port:socket; port:host:hostport.
	if n := len(f); n == 4 || n == 2 && !isPath(f[1]) || n == 3 && isPath(f[2]) {
		bind, port = f[0], f[1]
	}
	return string(forward.Remote) + " " + bind + ":" + port
}
