package jump

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"breakglass/internal/name"
	"breakglass/ledger"
	"breakglass/transcript"
)

// Who watches a session is the CA's to know: it lets them, and hands them what the store holds. The jump hears of it as it hears of revocations, from proven
// entries, records it in the session (KindWatcher), tells the person, and sends what is recorded to the store without waiting for more.

// watcher is one watching of a session.
type watcher struct {
	id       string
	person   name.Person
	observer bool
}

// watchers are those of this jump's sessions, as the CA's entries say. The zero value is ready.
type watchers struct {
	mu sync.Mutex
	of map[name.SessionID]*watchedSession
}

// watchedSession is one session's. last is the newest entry that was heeded: after a jump has put its ears back, entries come again, and somebody who has left must not
// be there once more for that.
type watchedSession struct {
	last int64
	now  []watcher
}

func (w *watchers) heed(s name.SessionID, index int64, f func(*watchedSession)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.of[s]
	if x == nil {
		if w.of == nil {
			w.of = map[name.SessionID]*watchedSession{}
		}
		if len(w.of) >= maxSessions+maxHeard { // entries about sessions that never come here
			for k, o := range w.of {
				if len(o.now) == 0 {
					delete(w.of, k)
				}
			}
		}
		x = &watchedSession{last: -1}
		w.of[s] = x
	}
	if index > x.last {
		x.last = index
		f(x)
	}
}

func (w *watchers) joined(s name.SessionID, index int64, who watcher) {
	w.heed(s, index, func(x *watchedSession) { x.now = append(x.now, who) })
}

func (w *watchers) left(s name.SessionID, index int64, id string) {
	w.heed(s, index, func(x *watchedSession) { x.now = slices.DeleteFunc(x.now, func(o watcher) bool { return o.id == id }) })
}

// list gives those who watch a session now.
func (w *watchers) list(s name.SessionID) []watcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.of[s]; x != nil {
		return slices.Clone(x.now)
	}
	return nil
}

func (w *watchers) forget(s name.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.of, s)
}

// personOf is who an entry's actor is.
func personOf(a ledger.Actor) name.Person {
	return name.Person(strings.TrimPrefix(string(a), string(ledger.PersonActor(""))))
}

// seeWatchers has the running sessions see who watches them now.
func (j *Jump) seeWatchers() {
	for _, s := range j.running() {
		s.seeWatchers()
	}
}

// seeWatchers compares who watches with who did, and has the difference told. What it leads to runs apart, in order: the journal may be slow.
func (s *session) seeWatchers() {
	s.comparing.Lock()
	defer s.comparing.Unlock()
	now := s.j.watchers.list(s.order.session)
	s.mu.Lock()
	before := s.watching
	s.watching = now
	s.mu.Unlock()
	has := func(list []watcher, id string) bool {
		return slices.ContainsFunc(list, func(w watcher) bool { return w.id == id })
	}
	for _, w := range before {
		if !has(now, w.id) {
			s.tellWatcher(w, false)
		}
	}
	for _, w := range now {
		if !has(before, w.id) {
			s.tellWatcher(w, true)
		}
	}
	s.judgeHold()
	if (len(before) > 0) != (len(now) > 0) {
		s.rec.ship.Watched(s.rec.sid, len(now) > 0)
	}
}

// tellWatcher records that somebody came or left, and tells the person.
func (s *session) tellWatcher(w watcher, joined bool) {
	s.later("telling who watches", func() {
		s.rec.now(transcript.Event{Kind: transcript.KindWatcher, Data: transcript.Watching{Joined: joined, Person: string(w.person)}.Encode()})
		if s.order.opened.Quiet {
			return
		}
		text := fmt.Sprintf("breakglass: %s watches.", w.person)
		if !joined {
			text = fmt.Sprintf("breakglass: %s watches no more.", w.person)
		}
		s.notice(text)
	})
}

// later runs f as part of the session, after all that was given to it before.
func (s *session) later(what string, f func()) {
	s.mu.Lock()
	s.tells = append(s.tells, f)
	busy := s.telling
	s.telling = true
	s.mu.Unlock()
	if busy {
		return
	}
	s.spawn(what, func() {
		for {
			s.mu.Lock()
			if len(s.tells) == 0 {
				s.telling = false
				s.mu.Unlock()
				return
			}
			f := s.tells[0]
			s.tells = s.tells[1:]
			s.mu.Unlock()
			f()
		}
	})
}

// whoWatches is a line of the greeting, "" if nobody does or it isn't told.
func (s *session) whoWatches() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watching) == 0 || s.order.opened.Quiet {
		return ""
	}
	var who []string
	for _, w := range s.watching {
		if !slices.Contains(who, string(w.person)) {
			who = append(who, string(w.person))
		}
	}
	verb := "watches"
	if len(who) > 1 {
		verb = "watch"
	}
	return fmt.Sprintf("breakglass: %s %s.", strings.Join(who, ", "), verb)
}
