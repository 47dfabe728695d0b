package jump

import "time"

// Where there are other jumps, one that can open nothing for anybody says so before SSH begins: a client that named its host in a preamble looks at the
// first bytes, and goes on to the next jump at once (agent/connect). To any other client, and where this jump is the only one, it speaks SSH, so
// that whoever proved a key reads why in words of their own.

// turnAwayTimeout bounds the writing of that line.
const turnAwayTimeout = time.Second

// shut says why nobody can be let in, or "".
func (j *Jump) shut() string {
	if j.journalErr() != nil {
		return "this jump can't record"
	}
	if left, _ := j.cfg.Journal.Room(); left < 2*journalLow {
		return "this jump has no room to record another session"
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.stopping, !j.going.since.IsZero() && time.Since(j.going.since) > admitTimeout:
		return "this jump is going down"
	case len(j.sessions) >= maxSessions:
		return "this jump is full"
	case !j.ears.since.IsZero() && j.ears.deaf():
		return "this jump does not reach the CA"
	}
	return ""
}

// turnAway tells a client that named its host to go to another jump, if it is to.
func (j *Jump) turnAway(d *doorConn) bool {
	if len(j.trusted().jumps) < 2 {
		return false
	}
	why := j.shut()
	if why == "" {
		return false
	}
	j.strangers.count(refusedShut, d.peer)
	j.log.Debug("turned away", "peer", d.peer, "why", why)
	// RFC 4253 section 4.2: lines before the identification, ended by CR LF, that don't begin with SSH-.
	d.SetWriteDeadline(time.Now().Add(turnAwayTimeout))
	d.Write([]byte("breakglass: " + why + "\r\n"))
	return true
}
