package reconcile

import (
	"strings"
	"testing"
	"time"
)

const (
	fpKey = "SHA256:MEhfcGULOqUBSWODCiYph9SlAPGEbmlBE9NluXasL8E"
	fpCA  = "SHA256:Ucvz75B61y9pXbCCQtjeNghXP5JF5l4tnrO5hxS6EH8"
)

// cert is the end of a line of OpenSSH 9.2.
func cert(id, serial string) string {
	return "ED25519-CERT " + fpKey + " ID " + id + " (serial " + serial + ") CA ED25519 " + fpCA
}

func TestLines(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	from := " from 10.0.0.2 port 49632 ssh2: "
	good := "Accepted publickey for root" + from + cert("breakglass:k7f-2mq:alice", "18446744073709551615")
	for _, c := range []struct {
		name, line string
		found      bool
		want       Use
	}{
		{"sshd -e", good, true, Use{Accepted: true, Readable: true}},
		{"rsyslog's old date", "Feb 28 23:59:59 web01 sshd[77]: " + good, true, Use{Accepted: true, Readable: true, Host: "web01", Time: time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)}},
		{"an old date of last year", "Nov  4 10:00:00 web01 sshd[77]: " + good, true, Use{Accepted: true, Readable: true, Host: "web01", Time: time.Date(2025, 11, 4, 10, 0, 0, 0, time.UTC)}},
		{"a leap day", "Feb 29 10:00:00 web01 sshd[77]: " + good, true, Use{Accepted: true, Readable: true, Host: "web01", Time: time.Date(2024, 2, 29, 10, 0, 0, 0, time.UTC)}},
		{"rsyslog's new date", "2026-02-28T10:00:00.123456+01:00 web01 sshd-session[7]: " + good, true, Use{Accepted: true, Readable: true, Host: "web01", Time: time.Date(2026, 2, 28, 9, 0, 0, 123456000, time.UTC)}},
		{"journalctl short-iso", "2026-02-28T10:00:00+0100 web01 sshd[7]: " + good, true, Use{Accepted: true, Readable: true, Host: "web01", Time: time.Date(2026, 2, 28, 9, 0, 0, 0, time.UTC)}},
		{"journalctl short-full", "Sat 2026-02-28 10:00:00 UTC web01 sshd[7]: " + good, true, Use{Accepted: true, Readable: true, Host: "web01", Time: time.Date(2026, 2, 28, 10, 0, 0, 0, time.UTC)}},
		{"journalctl short-unix", "1772272800.123456 web01 sshd[7]: " + good, true, Use{Accepted: true, Readable: true, Host: "web01", Time: time.Unix(1772272800, 0)}},
		{"a refused one", "web01 sshd[7]: Failed publickey for root" + from + cert("x", "18446744073709551615"), true, Use{Readable: true}},
		{"a key id that is a line's end", "Accepted publickey for root" + from + cert("evil (serial 1) CA ED25519 "+fpCA, "18446744073709551615"), true,
			Use{Accepted: true, Readable: true, KeyID: "evil (serial 1) CA ED25519 " + fpCA}},
		{"a key id with a line feed, cut", "Accepted publickey for root" + from + "ED25519-CERT " + fpKey + " ID new", true, Use{Accepted: true}},
		{"a serial that is none", "Accepted publickey for root" + from + cert("x", "18446744073709551616"), true, Use{Accepted: true}},
		{"a login with a space", "Accepted publickey for a b" + from + cert("x", "1"), true, Use{Accepted: true}},
		{"a user name that is a whole line", "Jan  1 00:00:00 web01 sshd[7]: Invalid user " + good + " from 6.6.6.6 port 7", false, Use{}},
		{"a user name with a tag in it", "Jan  1 00:00:00 web01 sshd[7]: Invalid user sshd[1]: " + good, false, Use{}},
		{"a plain key", "Accepted publickey for root" + from + "ED25519 " + fpKey, false, Use{}},
		{"a password", "Accepted password for root from 10.0.0.2 port 1 ssh2", false, Use{}},
		{"another program", "Jan  1 00:00:00 web01 sudo[7]: " + good, false, Use{}},
		{"the query", "Accepted certificate ID \"x\" (serial 1) signed by ED25519 CA " + fpCA + " via /etc/ssh/ca", false, Use{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, found := Parse(c.line, now)
			if found != c.found || got.Accepted != c.want.Accepted || got.Readable != c.want.Readable || got.Host != c.want.Host || !got.Time.Equal(c.want.Time) {
				t.Fatalf("%v, %+v", found, got)
			}
			if !got.Readable {
				return
			}
			if got.Serial != 1<<64-1 || got.CA != fpCA {
				t.Errorf("serial %d by %s", got.Serial, got.CA)
			}
			if id := c.want.KeyID; id != "" && got.KeyID != id {
				t.Errorf("key id %q", got.KeyID)
			}
			if got.Accepted && (got.Login != "root" || got.Address != "10.0.0.2" || got.Key != fpKey) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// FuzzParse: whatever stands in a log, a line that is read as an accepted certificate ends as sshd ends it, and begins as sshd begins it.
func FuzzParse(f *testing.F) {
	f.Add("Feb 28 23:59:59 web01 sshd[77]: Accepted publickey for root from ::1 port 1 ssh2: " + cert("breakglass:k7f-2mq:alice", "7"))
	f.Add("Accepted publickey for root from 10.0.0.2 port 1 ssh2: " + cert("a (serial 9) CA ED25519 "+fpCA, "7"))
	f.Add("Jan  1 00:00:00 h sshd[7]: Failed publickey for invalid user x from y port 1 ssh2: " + cert("q", "0"))
	f.Add("1772272800.1 h sshd: Accepted publickey for \x1b[2J from 1 port 1 ssh2: RSA-CERT ")
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line string) {
		u, ok := Parse(line, now)
		if !ok {
			if u != (Use{}) {
				t.Fatalf("nothing found, and yet %+v", u)
			}
			return
		}
		end := strings.TrimSuffix(strings.TrimRight(line, "\r\n"), " [preauth]")
		if u.Readable && !strings.HasSuffix(end, u.CA) {
			t.Fatalf("CA %q of %q", u.CA, line)
		}
		if u.Accepted && !strings.Contains(line, "Accepted publickey for ") || strings.ContainsAny(u.Login+u.Address, " \t\n") {
			t.Fatalf("%+v of %q", u, line)
		}
	})
}
