package ca

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/internal/name"
	"breakglass/internal/statement"
)

const (
	// maxChallenges bounds the statements that wait for a signature: strangers can make them, so memory has an end. The oldest goes first.
	maxChallenges = 10_000
	// maxNonces bounds the calls remembered to refuse a repeat, within the time in which one would be accepted.
	maxNonces = 200_000
)

// challenge is a statement that was handed out. It is used once, whatever comes of it.
type challenge struct {
	id        string
	st        statement.Statement
	text      []byte
	person    name.Person // "" for a decoy: nothing can sign it
	issued    time.Time
	expires   time.Time
	clientKey ssh.PublicKey // of a request only
	enrol     *enrolment    // of an enrolment only
}

// challenges are kept in memory alone: after a restart one asks again.
type challenges struct {
	now   func() time.Time
	mu    sync.Mutex
	byID  map[string]*challenge
	order []string // oldest first; may name some that are gone
}

func newChallenges(now func() time.Time) *challenges {
	return &challenges{now: now, byID: map[string]*challenge{}}
}

// add keeps c until it is taken or expires. It reports whether the id was free.
func (s *challenges) add(c *challenge) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.byID[c.id]; ok {
		return false
	}
	now := s.now()
	for len(s.order) > 0 {
		old, ok := s.byID[s.order[0]]
		if ok && len(s.byID) < maxChallenges && now.Before(old.expires) {
			break
		}
		delete(s.byID, s.order[0])
		s.order = s.order[1:]
	}
	s.byID[c.id] = c
	s.order = append(s.order, c.id)
	return true
}

// take gives the challenge and forgets it; nil if it is unknown, used or expired.
func (s *challenges) take(id string) *challenge {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.byID[id]
	delete(s.byID, id)
	// Before its own issue, too: a clock that went back would have it signed at a time that no auditor accepts, and be good for longer.
	if now := s.now(); c == nil || now.After(c.expires) || now.Before(c.issued) {
		return nil
	}
	return c
}

// newID names an act that is no request.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// nonces remembers calls by their nonce for as long as their time would be accepted.
type nonces struct {
	now   func() time.Time
	mu    sync.Mutex
	seen  map[statement.Nonce]time.Time
	order []statement.Nonce
}

func newNonces(now func() time.Time) *nonces {
	return &nonces{now: now, seen: map[statement.Nonce]time.Time{}}
}

// first reports whether n is new; it is then remembered until end. When there is no room for a live one, nothing is new.
func (s *nonces) first(n statement.Nonce, end time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for len(s.order) > 0 && now.After(s.seen[s.order[0]]) {
		delete(s.seen, s.order[0])
		s.order = s.order[1:]
	}
	if _, ok := s.seen[n]; ok || len(s.seen) >= maxNonces {
		return false
	}
	s.seen[n] = end
	s.order = append(s.order, n)
	return true
}
