package ledger

import "breakglass/internal/name"

// watching is one that was begun.
type watching struct {
	session name.SessionID
	by      Actor
	over    bool
}

// sessionWatched holds a watching to what reading is held to; and nobody is their own observer.
func (a *Audit) sessionWatched(f *SessionWatched) {
	s := a.sessions[a.e.Subject.Session]
	if s == nil {
		a.fault(FaultSession, "session %q was not opened", a.e.Subject.Session)
		return
	}
	a.underPass(f.Pass)
	if a.e.Actor == PersonActor(s.Subject.Person) {
		a.fault(FaultSession, "watched by the person whose session it is")
	}
	if f.Observer && len(s.Opened.WatchedBy) == 0 {
		a.fault(FaultSession, "an observer, and none was asked for")
	}
	a.overBefore(s)
	if _, again := a.watchings[f.Watch]; again || f.Watch == "" {
		a.fault(FaultReplay, "watching %q was begun before", f.Watch)
		return
	}
	if a.watchings == nil {
		a.watchings = map[string]*watching{}
	}
	a.watchings[f.Watch] = &watching{session: s.ID, by: a.e.Actor}
	s.Reads = append(s.Reads, a.index)
}

func (a *Audit) sessionUnwatched(f *SessionUnwatched) {
	w := a.watchings[f.Watch]
	switch {
	case w == nil || w.session != a.e.Subject.Session:
		a.fault(FaultSession, "watching %q of %q was not begun", f.Watch, a.e.Subject.Session)
	case w.over:
		a.fault(FaultSession, "watching %q was over before", f.Watch)
	case f.How == WatchLeft && a.e.Actor != w.by, f.How != WatchLeft && a.e.Actor != ActorCA:
		a.fault(FaultSession, "the watching of %s, ended as %q by %s", w.by, f.How, a.e.Actor)
	default:
		w.over = true
	}
}
