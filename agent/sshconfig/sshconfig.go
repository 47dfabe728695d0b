// Package sshconfig knows how stock OpenSSH (9.2 and newer) is told to go through breakglass in one hop: as options on a command
// line, and as a block that ~/.ssh/config includes.
//
// It guarantees that a connection made with these options shows the jump one certificate and nothing else of the person's, takes
// no host key but one that the pinned host CA signed for the name that was typed, and never falls back to another way in.
// The traps behind each line stand beside it.
package sshconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"breakglass/internal/name"
)

// ErrPath says that a path can't be written in an ssh_config.
var ErrPath = errors.New("ssh_config has no way to write this path")

// Option is one line.
type Option struct{ Key, Value string }

// Session is one connection by `breakglass ssh`.
type Session struct {
	Program    string // of breakglass, for ProxyCommand
	Host       name.Host
	Login      name.Login
	Socket     string // the grant's ssh-agent
	KnownHosts string
	Jumps      []string // IP:PORT in the order to try; none: those of the pins
}

// Options for the command line, first of all others: ssh takes the first value that it sees.
func (s Session) Options() ([]Option, error) {
	program, err := command(s.Program, append([]string{"connect"}, jumpArgs(s.Jumps, string(s.Host))...)...)
	if err != nil {
		return nil, err
	}
	common, err := options(program, s.Socket, s.KnownHosts)
	if err != nil {
		return nil, err
	}
	return append([]Option{
		{"User", string(s.Login)},
		// The person's own configuration may give the name another address: the certificate to check is the asked name's.
		{"HostName", string(s.Host)},
		{"HostKeyAlias", string(s.Host)},
		{"Port", "22"},
		{"CanonicalizeHostname", "no"},
	}, common...), nil
}

func jumpArgs(jumps []string, host string) []string {
	var out []string
	for _, j := range jumps {
		out = append(out, "--jump", j)
	}
	return append(out, "--", host)
}

// options are the same for all ways in.
func options(proxy, socket, knownHosts string) ([]Option, error) {
	sock, err := quote(socket)
	if err != nil {
		return nil, err
	}
	known, err := quote(knownHosts)
	if err != nil {
		return nil, err
	}
	return []Option{
		{"ProxyCommand", proxy},
		{"ProxyUseFdpass", "yes"},
		// A running master connection of the same name would be used in place of a recorded one.
		{"ControlMaster", "no"},
		{"ControlPath", "none"},
		// The agent's list is the one certificate. IdentitiesOnly must be off for it to be offered; IdentityFile none keeps the default
		// files out (with CertificateFile beside it ssh offers the certificate and then finds no key).
		{"IdentityAgent", sock},
		{"IdentitiesOnly", "no"},
		{"IdentityFile", "none"},
		{"PKCS11Provider", "none"},
		{"PubkeyAuthentication", "yes"},
		{"PreferredAuthentications", "publickey"},
		{"PasswordAuthentication", "no"},
		{"KbdInteractiveAuthentication", "no"},
		{"HostbasedAuthentication", "no"},
		{"GSSAPIAuthentication", "no"},
		// ForwardAgent would forward IdentityAgent, the grant's own socket.
		{"ForwardAgent", "no"},
		{"AddKeysToAgent", "no"},
		{"StrictHostKeyChecking", "yes"},
		{"UserKnownHostsFile", known},
		{"GlobalKnownHostsFile", "/dev/null"},
		{"KnownHostsCommand", "none"},
		{"VerifyHostKeyDNS", "no"},
		{"CheckHostIP", "no"},
		{"UpdateHostKeys", "no"},
	}, nil
}

// Args writes options as command line arguments.
func Args(opts []Option) []string {
	var out []string
	for _, o := range opts {
		out = append(out, "-o", o.Key+"="+o.Value)
	}
	return out
}

// Block is what ~/.ssh/config includes.
type Block struct {
	Program    string
	Run        string // the run directory
	KnownHosts string
	// Hosts are patterns of names that always go through breakglass. All other names do while a grant for them is alive.
	Hosts []string
	// Jumps are reached by their names for `ssh -J JUMP LOGIN@HOST` and `ssh LOGIN@HOST@JUMP`.
	Jumps      []Jump
	JumpSocket string // the ssh-agent of living grants, whichever
}

// Jump is where stock ssh reaches a jump.
type Jump struct {
	Name name.Jump
	IP   string
	Port string
}

// Text writes the block. Plain ssh with a live grant goes through breakglass for every name; the names in Hosts ask for a grant
// (on a terminal), and where there is none they fail: never a silent fallback to the network.
func (b Block) Text() (string, error) {
	proxy, err := command(b.Program, "connect", "--")
	if err != nil {
		return "", err
	}
	socket := strings.ReplaceAll(b.Run, "%", "%%")
	sock, err := quoteRaw(socket + "/%r@%n.sock")
	if err != nil {
		return "", err
	}
	known, err := quote(b.KnownHosts)
	if err != nil {
		return "", err
	}
	opts, err := options(proxy+" %n", "", "")
	if err != nil {
		return "", err
	}
	for i := range opts {
		switch opts[i].Key {
		case "IdentityAgent":
			opts[i].Value = sock
		case "UserKnownHostsFile":
			opts[i].Value = known
		}
	}
	// As HostName and Port of Session: an address that the person's own configuration gives the name isn't the name to check. (%h is
	// what was typed here; HostKeyAlias takes no token.)
	opts = append([]Option{{"HostName", "%h"}, {"Port", "22"}}, opts...)
	var w strings.Builder
	w.WriteString("# Written by `breakglass config install`; it is replaced whole the next time.\n")
	// Before all else: a jump's name may fit a pattern of hosts.
	if err := b.jumps(&w, sock, known); err != nil {
		return "", err
	}
	write := func() {
		for _, o := range opts {
			fmt.Fprintf(&w, "  %s %s\n", o.Key, o.Value)
		}
	}
	// %r and %n are in single quotes: they come from a command line, perhaps from a git URL.
	live, err := command(b.Program, "ensure", "--live", "--")
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&w, "\n# Where a grant is alive, ssh, scp, sftp, rsync and git use it.\nMatch exec \"%s '%%r@%%n'\"\n", live)
	write()
	if len(b.Hosts) == 0 {
		return w.String(), nil
	}
	for _, h := range b.Hosts {
		if err := CheckPattern(h); err != nil {
			return "", err
		}
	}
	ensure, err := command(b.Program, "ensure", "--")
	if err != nil {
		return "", err
	}
	refuse, err := command(b.Program, "connect", "--refuse", "--")
	if err != nil {
		return "", err
	}
	names := strings.Join(b.Hosts, ",")
	fmt.Fprintf(&w, "\n# These always go through breakglass: on a terminal a grant is asked for.\nMatch originalhost %s exec \"%s '%%r@%%n'\"\n", names, ensure)
	write()
	fmt.Fprintf(&w, "\n# Without a grant they are not reached at all.\nMatch originalhost %s\n  ProxyCommand %s %%n\n", names, refuse)
	return w.String(), nil
}

// jumps writes what leads to the jumps by their names.
func (b Block) jumps(w *strings.Builder, sock, known string) error {
	if len(b.Jumps) == 0 {
		return nil
	}
	all, err := quote(b.JumpSocket)
	if err != nil {
		return err
	}
	opts, err := options("none", "", "")
	if err != nil {
		return err
	}
	w.WriteString("\n# The jumps by their names: ssh -J JUMP LOGIN@HOST, and ssh LOGIN@HOST@JUMP.\n")
	for _, j := range b.Jumps {
		// %r is LOGIN@HOST there, as the grant's socket is called. ssh takes the first value that it sees.
		fmt.Fprintf(w, "Match originalhost %s user *@*\n  IdentityAgent %s\n", j.Name, strings.Replace(sock, "%r@%n.sock", "%r.sock", 1))
		fmt.Fprintf(w, "Match originalhost %s\n  HostName %s\n  Port %s\n  HostKeyAlias %s\n", j.Name, j.IP, j.Port, j.Name)
		for _, o := range opts {
			switch o.Key {
			case "ProxyUseFdpass":
				continue
			case "IdentityAgent":
				o.Value = all
			case "UserKnownHostsFile":
				o.Value = known
			}
			fmt.Fprintf(w, "  %s %s\n", o.Key, o.Value)
		}
	}
	return nil
}

// CheckPattern accepts a host pattern of ssh_config with the letters of our names.
func CheckPattern(s string) error {
	if s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-*?") != "" {
		return fmt.Errorf("host pattern %q: only a-z, 0-9, '.', '_', '-', '*' and '?'", s)
	}
	return nil
}

// KnownHosts is the file that says who may vouch for hosts: the pinned host CA, active and standby, and nobody else. The name is
// a wildcard here (a certificate itself names hosts literally), and only connections through a jump read this file.
func KnownHosts(hostCA []string) string {
	var w strings.Builder
	for _, k := range hostCA {
		fmt.Fprintf(&w, "@cert-authority * %s\n", strings.TrimSpace(k))
	}
	return w.String()
}

// command writes a command line for the shell that ssh runs, with ssh's own % doubled.
func command(program string, args ...string) (string, error) {
	var words []string
	for _, a := range append([]string{program}, args...) {
		if strings.ContainsAny(a, "'\"\\\n\r\x00") {
			return "", fmt.Errorf("%w: %q", ErrPath, a)
		}
		if strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:@[]") != "" {
			a = "'" + a + "'"
		}
		words = append(words, strings.ReplaceAll(a, "%", "%%"))
	}
	return strings.Join(words, " "), nil
}

// quote writes a path as a value, with % doubled.
func quote(path string) (string, error) { return quoteRaw(strings.ReplaceAll(path, "%", "%%")) }

func quoteRaw(v string) (string, error) {
	if strings.ContainsAny(v, "\"\\\n\r\x00") || strings.Contains(v, "${") {
		return "", fmt.Errorf("%w: %q", ErrPath, v)
	}
	return `"` + v + `"`, nil
}

// Include is the line that goes into ~/.ssh/config.
func Include(path string) (string, error) {
	q, err := quoteRaw(path)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(path, "*?[") {
		return "", fmt.Errorf("%w: %q", ErrPath, path)
	}
	return "Include " + q + "  # breakglass config install", nil
}

const mark = "# breakglass config install"

// WithInclude puts the line first: after a Host or Match line it would hold for those names only. An older line of ours is replaced.
func WithInclude(config, line string) string {
	rest := WithoutInclude(config)
	if rest == "" {
		return line + "\n"
	}
	return line + "\n" + rest
}

// WithoutInclude takes our line out.
func WithoutInclude(config string) string {
	if config == "" {
		return ""
	}
	lines := slices.DeleteFunc(strings.SplitAfter(config, "\n"), func(l string) bool {
		l = strings.TrimSpace(l)
		return strings.HasPrefix(l, "Include ") && strings.HasSuffix(l, mark)
	})
	return strings.Join(lines, "")
}
