package jump

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/forward"
	"breakglass/ledger"
)

// account is the one line that each session leaves in the jump's log, in JSON: what an operator looks for without a pass. What is in the recording is not in
// it: no command, no byte of what passed.
func (s *session) account(log *slog.Logger, reason, exit string, head ledger.Head) {
	j := s.j
	in, out := s.rec.in.Load(), s.rec.out.Load()
	j.mu.Lock() // so that no reading of the metrics counts them twice
	s.accounted = true
	j.figures.in.Add(in)
	j.figures.out.Add(out)
	j.mu.Unlock()
	j.figures.count(j.figures.ended, reason)
	s.mu.Lock()
	var kinds []string
	for k, n := range s.kinds {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	blind, up := s.blindFor, s.up
	if !s.blind.IsZero() {
		blind += time.Since(s.blind)
	}
	s.mu.Unlock()
	slices.Sort(kinds)
	var forwards []string
	for _, f := range s.order.forwards {
		forwards = append(forwards, f.String())
	}
	host, address := "", ""
	if up != nil {
		host, address = algorithms(up.client), up.address+up.through
	}
	log.Info("session ended", "request", s.order.session.Request(), "person", s.order.person, "login", s.order.login, "host", s.order.host, "peer", s.peer, "client", printable(s.client),
		"door", s.door, "address", printable(address), "opened", s.rec.began.UTC().Format(time.RFC3339), "seconds", int(s.rec.at()/time.Second), "reason", reason, "exit", printable(exit),
		"bytes_in", in, "bytes_out", out, "channels", strings.Join(kinds, ", "), "forwards", strings.Join(forwards, ", "), "person_leg", s.personAlgs, "host_leg", host,
		"blind_seconds", int(blind/time.Second), "entry", s.order.index, "frames", head.Frames, "stream_bytes", head.Bytes)
}

// algorithms says what a connection speaks: key exchange and cipher, of one direction where both are the same.
func algorithms(c any) string {
	m, ok := c.(ssh.AlgorithmsConnMetadata)
	if !ok {
		return ""
	}
	a := m.Algorithms()
	if a.Read.Cipher == a.Write.Cipher {
		return a.KeyExchange + " " + a.Read.Cipher
	}
	return a.KeyExchange + " " + a.Read.Cipher + "/" + a.Write.Cipher
}

// knownChannels are counted by their names; a stranger's own names are others.
var knownChannels = []string{"session", forward.OpenLocal, forward.OpenLocalUnix, forward.OpenRemote, forward.OpenRemoteUnix, "x11", "auth-agent@openssh.com", "tun@openssh.com"}

// asked counts a channel that somebody asks for.
func (s *session) asked(typ string) {
	if !slices.Contains(knownChannels, typ) {
		typ = "other"
	}
	s.j.figures.count(s.j.figures.channels, typ)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds == nil {
		s.kinds = map[string]int{}
	}
	s.kinds[typ]++
}
