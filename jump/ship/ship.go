package ship

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/jump/journal"
	"breakglass/ledger"
	"breakglass/transcript"
)

// Config says from where and to where.
type Config struct {
	Journal *journal.Journal
	Store   Store
	Facts   Facts
	Logger  *slog.Logger
	// Sent, if not nil, is told how long ago the oldest byte of a piece became durable when the store has it.
	Sent func(lag time.Duration, bytes int64)
}

// Shipper works until its context ends. A stream that is idle costs it a few hundred bytes and no goroutine.
type Shipper struct {
	cfg      Config
	ctx      context.Context
	trimming int64     // bytes
	large    sync.Pool // of *buffers
	small    sync.Pool

	mu      sync.Mutex
	lines   map[journal.SID]*line
	running []*line // in turn, of sessions that run
	ended   []*line // in turn, of sessions that are over
	turns   int     // under way
	endedAt int     // of them, of sessions that are over
	last    bool    // the turn before was of one that is over
	left    int     // of sessions that are over
	good    time.Time
	moved   chan struct{} // closed and made anew when something left the journal
	sweep   bool          // lines that keep old segments are being looked for
	warm    []*line       // those whose folder keeps its encoder
	cooling bool          // a timer runs for them
	folds   chan struct{} // holds who folds much
	wg      sync.WaitGroup
}

// line is one stream on its way. The fields behind at belong to whoever has its turn.
type line struct {
	sid      journal.SID
	session  name.SessionID
	envelope statement.Hash
	began    time.Time
	rest     func() // its folder's

	// Under the Shipper's lock.
	queued  bool
	turning bool
	again   bool      // something happened during its turn
	still   bool      // gets no turn
	old     bool      // keeps an old segment
	gone    bool      // stored and forgotten
	watched bool      // somebody looks at it as it arrives: nothing is gathered
	tries   int       // that failed, since one didn't
	failing bool      // waits after one that failed
	backlog int64     // bytes that are durable and not stored; below 0 for the moment in which a frame is read before the journal has told of it
	since   time.Time // when the oldest byte of the backlog became durable
	due     time.Time // when it gets a turn; zero: not set
	timer   *time.Timer
	told    int64 // the fact that told its end
	final   ledger.Head

	foldedAt time.Time
	warm     bool

	cancel context.CancelFunc // of its turn

	speak  sync.Mutex // held while a head is signed
	hushed bool

	at position
	folding
}

// New makes a Shipper whose uploads end with ctx. It is the journal's listener from then on.
func New(ctx context.Context, cfg Config) *Shipper {
	_, all := cfg.Journal.Room()
	s := &Shipper{cfg: cfg, ctx: ctx, trimming: min(max(all/trimShare, minTrim), maxTrim), lines: map[journal.SID]*line{}, moved: make(chan struct{}), good: time.Now(),
		folds: make(chan struct{}, max(1, runtime.NumCPU()/2))}
	s.large.New = func() any { return &buffers{make([]byte, window), make([]byte, 0, piece)} }
	s.small.New = func() any { return &buffers{make([]byte, window/16), make([]byte, 0, piece/16)} }
	cfg.Journal.Notify(s.durable, s.rolled)
	return s
}

// Left is how many recordings of sessions that are over are still here.
func (s *Shipper) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

// Behind is how much is durable in the journal and not in the store yet, of all streams, and since when the oldest of it is.
func (s *Shipper) Behind() (bytes int64, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		bytes += max(0, l.backlog)
		if l.backlog > 0 && (since.IsZero() || l.since.Before(since)) {
			since = l.since
		}
	}
	return bytes, since
}

// Wait returns when no upload is under way any more, after the context has ended.
func (s *Shipper) Wait() {
	<-s.ctx.Done()
	s.mu.Lock()
	//lint:ignore SA2001 whoever begins an upload looks at the context under the lock: none begins now
	s.mu.Unlock()
	s.wg.Wait()
}

// Follow ships a running session's stream, of which the header, of so many bytes, and the envelope are durable, and nothing else is. Its records are folded by folder, if it isn't
// nil, which is the Shipper's from now on.
func (s *Shipper) Follow(sid journal.SID, session name.SessionID, envelope statement.Hash, header int, folder *transcript.Folder) {
	l := &line{sid: sid, session: session, envelope: envelope, began: time.Now(), folding: folding{folder: folder}}
	if folder != nil {
		l.rest = folder.Rest
	}
	l.at.headAt = l.began
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines[sid] = l
	l.since, l.backlog = l.began, int64(header)
	s.after(l, gather)
}

// Ship ships what a former run left; its end must have been told.
func (s *Shipper) Ship(st *Stream) {
	l := &line{sid: st.SID, session: st.Session, envelope: st.Envelope, told: st.Told, final: st.Head, since: time.Now(), backlog: st.left}
	l.at.begin(st.from)
	l.plan, l.decided = st.plan, math.MaxUint64
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lines[st.SID]; l != nil { // of this run after all
		if st.found { // a chunk may be in the journal of which nobody was told
			l.plan, l.broken = st.plan, nil
		}
		l.decided = math.MaxUint64
		s.over(l, st.Told, st.Head)
		return
	}
	s.lines[st.SID] = l
	s.left++
	s.queue(l)
}

func (s *Shipper) over(l *line, told int64, final ledger.Head) {
	if l.told == 0 {
		s.left++
	}
	l.told, l.final, l.still = told, final, false
	s.queue(l)
}

// Still returns when nothing touches the stream in the journal, until it is over: it is going to be read as it stands.
func (s *Shipper) Still(sid journal.SID) {
	s.still(sid, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lines[sid]; l != nil {
		l.endFolding()
	}
}

// still is Still, after a while in which a call that is under way may end by itself.
func (s *Shipper) still(sid journal.SID, patience time.Duration) {
	for began := time.Now(); ; {
		s.mu.Lock()
		l := s.lines[sid]
		if l == nil {
			s.mu.Unlock()
			return
		}
		l.still = true
		turning := l.turning
		if turning && time.Since(began) >= patience {
			l.cancel()
		}
		s.mu.Unlock()
		if !turning {
			return
		}
		select {
		case <-time.After(time.Millisecond): // its call ends, or was ended
		case <-s.ctx.Done():
			s.Wait()
			return
		}
	}
}

// Hush returns when no head of the stream is signed any more: its end is about to be told, and nothing comes behind that.
func (s *Shipper) Hush(sid journal.SID) {
	s.mu.Lock()
	l := s.lines[sid]
	s.mu.Unlock()
	if l != nil {
		l.speak.Lock()
		l.hushed = true
		l.speak.Unlock()
	}
}

// Pace returns when the session may go on making data in bulk. It waits only while the journal is half full, much of it is this session's, and the store
// takes it; not at an end. So a session is as fast as the store when the store is slower, and its neighbours' keystrokes find room.
func (s *Shipper) Pace(sid journal.SID, ending *atomic.Bool) {
	for !ending.Load() {
		left, all := s.cfg.Journal.Room()
		if left > all/2 {
			return
		}
		s.mu.Lock()
		l, moved := s.lines[sid], s.moved
		goOn := l == nil || l.backlog <= left/16 || l.tries > 0 || time.Since(s.good) > alive
		s.mu.Unlock()
		if goOn {
			return
		}
		select {
		case <-moved:
		case <-time.After(alive / 20):
		case <-s.ctx.Done():
			return
		}
	}
}

// durable is the journal's word.
func (s *Shipper) durable(e journal.Entry) {
	if e.Kind != KindFrame {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[e.Stream]
	if l == nil {
		return
	}
	if l.backlog <= 0 {
		l.since = time.Now()
	}
	l.backlog += int64(len(e.Data))
	if l.turning { // the turn sees to it
		return
	}
	s.after(l, s.gather(l))
}

// gather is how long a line that has something may wait for more.
func (s *Shipper) gather(l *line) time.Duration {
	if l.watched || l.backlog >= enough {
		return 0
	}
	return gather
}

// Watched says whether somebody watches the running session: then what is durable goes to the store at once, and is gathered only while a piece is under way.
func (s *Shipper) Watched(sid journal.SID, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[sid]
	if l == nil {
		return
	}
	l.watched = is
	if is && l.backlog > 0 && !l.turning {
		s.after(l, 0)
	}
}

// rolled: a segment was taken into use. Streams that keep old ones move on, or an idle session would keep one as long as it lives.
func (s *Shipper) rolled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sweep || s.ctx.Err() != nil {
		return
	}
	s.sweep = true
	s.wg.Go(func() {
		old := s.cfg.Journal.Old(max(1, s.cfg.Journal.Segments()/3))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sweep = false
		for _, sid := range old {
			if l := s.lines[sid]; l != nil && l.told == 0 {
				l.old = true
				s.after(l, 0)
			}
		}
	})
}

// after gives the line a turn in a while, or sooner if it was due sooner. A line that waits after an error isn't hurried.
func (s *Shipper) after(l *line, d time.Duration) {
	at := time.Now().Add(d)
	if l.queued || l.still || l.failing || s.ctx.Err() != nil || !l.due.IsZero() && !at.Before(l.due) {
		return
	}
	if d <= 0 {
		s.queue(l)
		return
	}
	l.due = at
	s.arm(l, d)
}

func (s *Shipper) arm(l *line, d time.Duration) {
	if l.timer == nil {
		l.timer = time.AfterFunc(d, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.queue(l)
		})
		return
	}
	l.timer.Reset(d)
}

// queue puts the line where its turn comes.
func (s *Shipper) queue(l *line) {
	l.due = time.Time{}
	if l.timer != nil {
		l.timer.Stop()
	}
	switch {
	case l.queued || l.still || l.gone || s.ctx.Err() != nil:
		return
	case l.turning:
		l.again = true
		return
	}
	l.queued = true
	if l.told != 0 {
		s.ended = append(s.ended, l)
	} else {
		s.running = append(s.running, l)
	}
	if s.turns < workers {
		s.turns++
		s.wg.Go(s.work)
	}
}

// next takes whose turn it is: of running sessions and of those that are over alternately, so that neither starves.
func (s *Shipper) next() *line {
	take := func(q *[]*line) *line {
		l := (*q)[0]
		*q = (*q)[1:]
		if len(*q) == 0 {
			*q = nil
		}
		return l
	}
	ended := len(s.ended) > 0 && s.endedAt < maxEnded
	if len(s.running) > 0 && !(ended && !s.last) {
		s.last = false
		return take(&s.running)
	}
	if ended {
		s.last = true
		return take(&s.ended)
	}
	return nil
}

// work gives turns until nobody waits for one.
func (s *Shipper) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ctx.Err() == nil {
		l := s.next()
		if l == nil {
			break
		}
		l.queued = false
		if l.still {
			continue
		}
		l.turning, l.again = true, false
		ctx, cancel := context.WithCancel(s.ctx)
		l.cancel = cancel
		pool := &s.large
		if l.backlog < little && l.told == 0 {
			pool = &s.small
		}
		over := l.told != 0
		if over {
			s.endedAt++
		}
		s.mu.Unlock()
		b := pool.Get().(*buffers)
		res, err := s.turn(ctx, l, b)
		pool.Put(b)
		cancel()
		s.mu.Lock()
		if over {
			s.endedAt--
		}
		l.turning = false
		s.follow(l, res, err)
	}
	s.turns--
}

// follow decides when the line has its next turn.
func (s *Shipper) follow(l *line, res result, err error) {
	l.failing = false
	var problem *api.Problem
	switch {
	case s.ctx.Err() != nil:
	case errors.Is(err, errWaits): // for the CA to have its last fact: somebody waits for that
		if l.again {
			s.queue(l)
		}
	case errors.As(err, &problem) && problem.Code == api.CodeReading: // all is there
		s.pause(l, firstWait)
	case err != nil:
		l.at.asked = false
		if l.tries%16 == 0 {
			s.cfg.Logger.Warn("recording not stored yet", "session", l.session, "error", err)
		}
		s.pause(l, min(maxWait, firstWait<<min(l.tries, 6)))
		l.tries++
	case res.done:
		if l.timer != nil {
			l.timer.Stop()
		}
		l.gone = true
		l.endFolding()
		delete(s.lines, l.sid)
		s.left--
	case res.more || l.again || l.told != 0 || l.backlog >= enough:
		l.tries = 0
		s.queue(l)
	default:
		l.tries = 0
		if l.backlog > 0 {
			s.after(l, s.gather(l)-time.Since(l.since))
		}
		if res.headIn > 0 {
			s.after(l, res.headIn)
		}
	}
}

// pause gives the line its next turn after a wait, whatever happens meanwhile.
func (s *Shipper) pause(l *line, d time.Duration) {
	l.due, l.failing = time.Now().Add(d), true
	s.arm(l, d)
}

// has counts bytes that the store has, sent now or, as it turns out, before, and what they stand for in the journal.
func (s *Shipper) has(l *line, bytes, size int64) {
	s.mu.Lock()
	lag := time.Since(l.since)
	s.good = time.Now()
	l.backlog -= size
	if bytes > 0 {
		l.since = s.good // what is left came later than what went
	}
	s.mu.Unlock()
	if s.cfg.Sent != nil && bytes > 0 {
		s.cfg.Sent(lag, bytes)
	}
}

func (s *Shipper) stir() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.moved)
	s.moved = make(chan struct{})
}
