// Package sitegen writes the policy of a made-up site of any size, for benchmarks and for tests that compare evaluators. It promises to them
// that the same Size always gives the same text, and that the text loads: groups of people and of hosts, literal lists and patterns, as sites
// have them.
package sitegen

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/policytext"
)

// Size is how much of everything the site has.
type Size struct {
	People, Hosts, Rules, Patterns int
}

// Small is a site with ten rules, Large the largest that is promised to work.
var (
	Small = Size{People: 20, Hosts: 40, Rules: 10, Patterns: 2}
	Large = Size{People: 5000, Hosts: 20000, Rules: 500, Patterns: 500}
)

// Team, Host and Person name the things of the text: rule i lets team i into cluster i, and person n is in team n%Rules.
func Team(i int) string   { return fmt.Sprintf("team-%d", i) }
func Person(i int) string { return fmt.Sprintf("p%d", i) }
func Host(i int) string   { return fmt.Sprintf("srv-%05d.dc%d", i, i%7) }

func cluster(i int) string { return fmt.Sprintf("cluster-%d", i) }

// Text is the site's policy in one file.
func Text(s Size) string { return head(s) + hosts(s, 0, s.Hosts) }

// Set is the same policy as a set of files, perFile hosts to each.
func Set(s Size, perFile int) (string, error) {
	files := []policytext.File{{Name: policytext.Main, Text: head(s)}}
	for from := 0; from < s.Hosts; from += perFile {
		files = append(files, policytext.File{Name: fmt.Sprintf("hosts/h%05d.toml", from), Text: hosts(s, from, min(from+perFile, s.Hosts))})
	}
	return policytext.Join(files)
}

func head(s Size) string {
	r := rand.New(rand.NewPCG(5, uint64(s.Rules)))
	var b strings.Builder
	b.WriteString("profile = \"demo\"\n[site]\nname = \"example\"\nowners = [\"p0\"]\nsigners = 1\noperators = [\"p1\"]\nreaders = [\"p0\"]\n")
	b.WriteString("[always]\nuv = false\n[networks]\noffice = [\"192.0.2.0/24\"]\n")
	for i := range s.People {
		groups := fmt.Sprintf("%q", Team(i%s.Rules))
		if r.IntN(4) == 0 { // some are in a second team
			groups += fmt.Sprintf(", %q", Team(r.IntN(s.Rules)))
		}
		fmt.Fprintf(&b, "[people.%s]\ngroups = [%s]\n", Person(i), groups)
	}
	for i := range s.Patterns {
		fmt.Fprintf(&b, "[hosts.\"pool%d-*\"]\naddress = [\"{host}:22\"]\nhost_keys = [%q]\ngroups = [%q]\n", i, key(i), cluster(i%s.Rules))
	}
	for i := range s.Rules {
		who, where := fmt.Sprintf("%q", "@"+Team(i)), fmt.Sprintf("%q", "@"+cluster(i))
		if i%3 == 1 { // and a few by name
			who += fmt.Sprintf(", %q", Person(r.IntN(s.People)))
			for range 5 {
				where += fmt.Sprintf(", %q", Host(r.IntN(s.Hosts)))
			}
		}
		if i%5 == 2 {
			where += fmt.Sprintf(", \"srv-%04d*\"", r.IntN(max(s.Hosts/10, 1)))
		}
		fmt.Fprintf(&b, "[[rule]]\nname = \"rule-%d\"\nwhy = \"team %d runs these machines\"\nwho = [%s]\nhosts = [%s]\nlogins = [\"root\", \"ops\"]\nminutes = 30\n", i, i, who, where)
		if i%4 == 3 {
			b.WriteString("approvals = 1\napprovers = [\"p0\", \"p1\", \"p2\"]\n")
		}
		if i%10 == 9 {
			b.WriteString("networks = [\"office\"]\n")
		}
	}
	return b.String()
}

func hosts(s Size, from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "[hosts.%q]\naddress = [\"10.%d.%d.%d:22\"]\nhost_keys = [%q]\ngroups = [%q, \"dc%d\"]\n", Host(i), i>>16&255, i>>8&255, i&255, key(1000+i), cluster(i%s.Rules), i%7)
	}
	return b.String()
}

// key is a public key of its own for each i. Nobody has its private half at hand; it need only parse.
func key(i int) string {
	seed := make([]byte, ed25519.PublicKeySize)
	copy(seed, fmt.Sprintf("site key %d", i))
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(publicKey(seed))))
}

func publicKey(raw []byte) ssh.PublicKey {
	k, err := ssh.NewPublicKey(ed25519.PublicKey(raw))
	if err != nil {
		panic(err) // 32 bytes always are one
	}
	return k
}
