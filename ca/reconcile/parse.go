// Package reconcile holds what hosts' sshd logged against what the CA recorded: the log of a host is the one witness of a certificate that
// somebody made with a stolen CA key, for such a certificate is in no ledger.
//
// It guarantees to the auditor: every line in which sshd says that it accepted a certificate of one of this site's CAs is either
// held against the entry of exactly that certificate, or is a finding; one that looks like such a line and can't be read is a finding too.
// What strangers write into a log (user names, the key ids of certificates by other CAs) makes no such line: a message counts only at its own
// beginning, and is read from its end.
//
// The lines are OpenSSH's (auth.c auth_log, auth2-pubkey.c format_key), in the log of rsyslog, journalctl or sshd itself:
//
//	Accepted publickey for LOGIN from ADDRESS port N ssh2: TYPE-CERT SHA256:KEY ID KEYID (serial N) CA TYPE SHA256:CA
package reconcile

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// MaxLine bounds a line in bytes; sshd's own limit of a message is 1 KiB (log.c MSGBUFSIZ), rsyslog's 8 KiB.
const MaxLine = 64 << 10

// Use is one certificate that sshd looked at.
type Use struct {
	Line     int
	Accepted bool
	Readable bool // what follows was read
	Time     time.Time
	Host     string // as the log calls it; "" is unknown
	Login    string
	Address  string
	Key      string // SHA256:…
	KeyID    string
	Serial   uint64
	CA       string // SHA256:…
}

var (
	// tag ends what the logger wrote. Only its first match in a line counts: all after it is sshd's, and may quote strangers.
	tag = regexp.MustCompile(`(?:^|[ /])sshd(?:-session|-auth)?(?:\[[0-9]+\])?: `)
	// The account of an accepted login exists, and no account has a space. The key id goes to the last "(serial".
	accepted = regexp.MustCompile(`^Accepted publickey for (\S+) from (\S+) port [0-9]+ ssh2: [A-Z0-9-]+-CERT (SHA256:[A-Za-z0-9+/]{43}) ID (.*) \(serial ([0-9]+)\) CA [A-Z0-9-]+ (SHA256:[A-Za-z0-9+/]{43})$`)
	failed   = regexp.MustCompile(`^Failed publickey for .+ \(serial ([0-9]+)\) CA [A-Z0-9-]+ (SHA256:[A-Za-z0-9+/]{43})(?: \[preauth\])?$`)
	// looks is what an accepted certificate's line begins with, whatever is in it.
	looks = regexp.MustCompile(`^Accepted publickey for .* ssh2: [A-Z0-9-]+-CERT `)
)

// Parse reads one line; false is none about a certificate. now gives the year to dates that have none.
func Parse(line string, now time.Time) (Use, bool) {
	line = strings.TrimRight(line, "\r\n")
	prefix, message := "", line
	if at := tag.FindStringIndex(line); at != nil {
		prefix, message = line[:at[0]], line[at[1]:]
	}
	var u Use
	if m := accepted.FindStringSubmatch(message); m != nil {
		n, err := strconv.ParseUint(m[5], 10, 64)
		u = Use{Accepted: true, Readable: err == nil, Login: m[1], Address: m[2], Key: m[3], KeyID: m[4], Serial: n, CA: m[6]}
	} else if m := failed.FindStringSubmatch(message); m != nil {
		n, err := strconv.ParseUint(m[1], 10, 64)
		u = Use{Readable: err == nil, Serial: n, CA: m[2]}
	} else if looks.MatchString(message) || len(line) > MaxLine && strings.HasPrefix(message, "Accepted publickey for ") {
		u = Use{Accepted: true}
	} else {
		return Use{}, false
	}
	u.Time, u.Host = stamp(prefix, now)
	return u, true
}

// layouts are the times that loggers write, with how many words each has: rsyslog's two and journalctl's short-iso, short-full.
var layouts = []struct {
	layout string
	words  int
}{
	{time.RFC3339Nano, 1},
	{"2006-01-02T15:04:05Z0700", 1}, // systemd before 255
	{"2006-01-02T15:04:05.999999Z0700", 1},
	{"Mon 2006-01-02 15:04:05 MST", 4},
	{"Jan _2 15:04:05", 3},
	{"Jan _2 15:04:05.999999", 3},
}

// stamp reads time and host out of what stands before the message. Without a zone in it, the time is the local one.
func stamp(prefix string, now time.Time) (time.Time, string) {
	words := strings.Fields(prefix)
	host := func(n int) string {
		if n < len(words) {
			return words[n]
		}
		return ""
	}
	for _, l := range layouts {
		if len(words) < l.words {
			continue
		}
		t, err := time.ParseInLocation(l.layout, strings.Join(words[:l.words], " "), now.Location())
		if err != nil {
			continue
		}
		if t.Year() == 0 { // the newest such day that is not after tomorrow: February 29 exists in its own year alone
			for y := now.Year() + 1; y > now.Year()-8; y-- {
				d := time.Date(y, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
				if d.Day() == t.Day() && d.Before(now.Add(24*time.Hour)) {
					return d, host(l.words)
				}
			}
			return time.Time{}, host(l.words)
		}
		return t, host(l.words)
	}
	if len(words) > 0 { // journalctl -o short-unix
		sec, frac, _ := strings.Cut(words[0], ".")
		if s, err := strconv.ParseInt(sec, 10, 64); err == nil && len(sec) == 10 && len(frac) <= 9 {
			return time.Unix(s, 0), host(1)
		}
	}
	return time.Time{}, ""
}
