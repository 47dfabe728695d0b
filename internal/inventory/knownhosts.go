package inventory

import (
	"net"
	"slices"
	"strings"

	"breakglass/internal/name"
)

// KnownHosts reads a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): several keys a host become one host, names and addresses of a line one
// machine. A key that some line revokes is no key of any host.
func KnownHosts(text string) *List {
	l := &List{}
	byName := map[string]*Host{}
	revoked := map[string]int{} // key → line
	var named []string
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		marker := ""
		if strings.HasPrefix(f[0], "@") {
			marker, f = f[0], f[1:]
		}
		if len(f) < 3 {
			l.refuse(n, "", "look at the line", "it is no line of known_hosts: want names, key type and key")
			continue
		}
		what := f[0]
		if len(what) > maxShown {
			what = what[:maxShown] + "…"
		}
		key, err := keyLine(f[1], f[2])
		switch {
		case err != nil:
			l.refuse(n, what, "take the host's /etc/ssh/ssh_host_ed25519_key.pub", "%v", err)
			continue
		case marker == "@revoked":
			revoked[key] = n
			l.refuse(n, what, "nothing: no host with this key is imported", "its key is revoked")
			continue
		case marker != "" && marker != "@cert-authority":
			l.refuse(n, what, "look at the line", "unknown marker %q", marker)
			continue
		}
		h, why, next := knownHost(f[0], marker != "")
		if why != "" {
			l.refuse(n, what, next, "%s", why)
			continue
		}
		have := byName[h.Name]
		if have == nil {
			h.Line = n
			have = &h
			byName[h.Name] = have
			named = append(named, h.Name)
		} else {
			have.Address, have.names = append(have.Address, h.Address...), append(have.names, h.names...)
		}
		if marker != "" {
			have.CA = appendNew(have.CA, key)
		} else {
			have.Keys = appendNew(have.Keys, key)
		}
	}
	for _, n := range named {
		h := byName[n]
		if i := slices.IndexFunc(slices.Concat(h.Keys, h.CA), func(k string) bool { return revoked[k] > 0 }); i >= 0 {
			l.refuse(h.Line, n, "find out which key the host has now", "one of its keys is revoked in line %d", revoked[slices.Concat(h.Keys, h.CA)[i]])
			continue
		}
		h.Address = order(h.Address)
		l.Hosts = append(l.Hosts, *h)
	}
	l.sort()
	return l
}

// maxShown is how much of a field a refusal shows.
const maxShown = 80

// knownHost reads the first field of a line: "web01,10.0.0.5", "[web01]:2222".
func knownHost(field string, ca bool) (h Host, why, next string) {
	if strings.HasPrefix(field, "|") {
		return h, "its name is hashed: which host it is can't be read out of it",
			"write the hosts' names into a CSV (name,address,groups,host_key); `ssh-keygen -F NAME` gives a name's key"
	}
	for _, s := range strings.Split(field, ",") {
		if strings.HasPrefix(s, "!") || strings.Contains(s, "?") || strings.Count(s, "*") > 1 {
			return h, "names with !, ? or several * are no pattern of a policy", "write the names out, in a CSV"
		}
		host, port := s, ""
		if strings.HasPrefix(s, "[") {
			var err error
			if host, port, err = net.SplitHostPort(s); err != nil {
				return h, "a name in brackets without a port", "look at the line"
			}
		}
		host = strings.ToLower(host)
		if strings.Contains(host, "*") {
			if !ca {
				return h, "one key for all hosts that fit a pattern", "write the names out, in a CSV"
			}
			if port == "" {
				port = "22"
			}
			if _, err := name.ParseHost("x" + strings.Replace(host, "*", "", 1)); err != nil || h.Name != "" {
				return h, "it is no pattern of a policy", "write the names out, in a CSV"
			}
			h.Name, h.Address = host, []string{"{host}:" + port}
			continue
		}
		if strings.Contains(h.Name, "*") {
			return h, "a pattern and names on one line", "put them on two lines"
		}
		a, err := endpoint(host, port)
		if err != nil {
			return h, err.Error(), "look at the line"
		}
		h.Address = append(h.Address, a)
		if port == "" || port == "22" {
			h.names = append(h.names, host)
		}
		if _, p, err := net.SplitHostPort(a); err == nil {
			h.names = append(h.names, "["+host+"]:"+p)
		}
		if h.Name == "" && !isIP(host) {
			h.Name = host
		}
	}
	if h.Name == "" { // an address alone
		h.Name = strings.ToLower(strings.Split(field, ",")[0])
		if strings.HasPrefix(h.Name, "[") {
			h.Name, _, _ = net.SplitHostPort(h.Name)
		}
	}
	if _, err := name.ParseHost(strings.Replace(h.Name, "*", "", 1)); err != nil && !strings.Contains(h.Name, "*") {
		return h, "it has no name that people could ask for: " + err.Error(), "write name and address into a CSV"
	}
	return h, "", ""
}
