package transcript

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Kind says what an event is. The set of v1 is closed: an unknown kind is refused.
type Kind byte

const (
	KindInput   Kind = 'i' // data from the person (stdin)
	KindOutput  Kind = 'o' // data from the host (stdout)
	KindStderr  Kind = 'e' // extended data from the host, type 1 (stderr)
	KindOpen    Kind = 'O' // channel open: Opening
	KindRequest Kind = 'Q' // channel request: Request
	KindGlobal  Kind = 'G' // global request: Request
	KindEOF     Kind = 'F' // end of file: Side
	KindClose   Kind = 'C' // channel close: Side
	KindWall    Kind = 'W' // wall clock
	KindAct     Kind = 'P' // what the jump itself did or saw: Action
	KindWatcher Kind = 'V' // a watcher joined or left: Watching
	KindMark    Kind = 'm' // marker, UTF-8
)

// Event is one thing that happened on a channel, at T since the header's t0.
type Event struct {
	T    time.Duration
	Kind Kind
	Chan uint32 // 0 is the connection itself
	Data []byte
}

// Side is an end of the proxied connection.
type Side byte

const (
	FromPerson Side = 1
	FromHost   Side = 2
	FromJump   Side = 3 // only in KindEOF and KindClose
)

func (s Side) String() string {
	switch s {
	case FromPerson:
		return "person"
	case FromHost:
		return "host"
	case FromJump:
		return "jump"
	}
	return fmt.Sprintf("side %d", byte(s))
}

// Step says how far an opening or a request got.
type Step byte

const (
	Asked   Step = 0 // recorded before it goes on
	Done    Step = 1 // the other side confirmed
	Refused Step = 2 // the other side refused
	Denied  Step = 3 // the jump refused and passed nothing on
)

func (s Step) String() string {
	switch s {
	case Asked:
		return "asked"
	case Done:
		return "done"
	case Refused:
		return "refused"
	case Denied:
		return "denied"
	}
	return fmt.Sprintf("step %d", byte(s))
}

// Opening is the data of a KindOpen event (RFC 4254 section 5.1).
type Opening struct {
	Step    Step
	From    Side
	Type    string
	Extra   []byte
	Reason  uint32
	Message string
}

// Encode gives the event's data.
func (o Opening) Encode() []byte {
	b := []byte{byte(o.Step), byte(o.From)}
	b = appendString(b, o.Type)
	b = appendString(b, o.Extra)
	b = binary.BigEndian.AppendUint32(b, o.Reason)
	return appendString(b, o.Message)
}

// ParseOpening reads the data of a KindOpen event.
func ParseOpening(b []byte) (Opening, error) {
	p := parser{b: b}
	o := Opening{Step: Step(p.u8()), From: Side(p.u8()), Type: string(p.str()), Extra: p.str(), Reason: p.u32(), Message: string(p.str())}
	if !p.done() || o.Step > Denied || o.From != FromPerson && o.From != FromHost {
		return Opening{}, fmt.Errorf("%w: channel open", ErrEvent)
	}
	return o, nil
}

// Request is the data of a KindRequest or KindGlobal event (RFC 4254 sections 5.4 and 4).
type Request struct {
	Step    Step
	From    Side
	Type    string
	Want    bool // want_reply
	Payload []byte
	Message string
}

// Encode gives the event's data.
func (r Request) Encode() []byte {
	b := []byte{byte(r.Step), byte(r.From)}
	b = appendString(b, r.Type)
	b = append(b, bit(r.Want))
	b = appendString(b, r.Payload)
	return appendString(b, r.Message)
}

// ParseRequest reads the data of a KindRequest or KindGlobal event.
func ParseRequest(b []byte) (Request, error) {
	p := parser{b: b}
	r := Request{Step: Step(p.u8()), From: Side(p.u8()), Type: string(p.str()), Want: p.bool(), Payload: p.str(), Message: string(p.str())}
	if !p.done() || r.Step > Denied || r.From != FromPerson && r.From != FromHost {
		return Request{}, fmt.Errorf("%w: request", ErrEvent)
	}
	return r, nil
}

// Action is the data of a KindAct event.
type Action struct{ Code, Text string }

// Encode gives the event's data.
func (a Action) Encode() []byte { return appendString(appendString(nil, a.Code), a.Text) }

// ParseAction reads the data of a KindAct event.
func ParseAction(b []byte) (Action, error) {
	p := parser{b: b}
	a := Action{string(p.str()), string(p.str())}
	if !p.done() {
		return Action{}, fmt.Errorf("%w: action", ErrEvent)
	}
	return a, nil
}

// Watching is the data of a KindWatcher event.
type Watching struct {
	Joined bool
	Person string
}

// Encode gives the event's data.
func (w Watching) Encode() []byte { return appendString([]byte{bit(w.Joined)}, w.Person) }

// ParseWatching reads the data of a KindWatcher event.
func ParseWatching(b []byte) (Watching, error) {
	p := parser{b: b}
	w := Watching{p.bool(), string(p.str())}
	if !p.done() {
		return Watching{}, fmt.Errorf("%w: watcher", ErrEvent)
	}
	return w, nil
}

// EncodeWall gives the data of a KindWall event.
func EncodeWall(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixMicro()))
}

// ParseWall reads the data of a KindWall event.
func ParseWall(b []byte) (time.Time, error) {
	if len(b) != 8 {
		return time.Time{}, fmt.Errorf("%w: wall clock", ErrEvent)
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC(), nil
}

// ParseSide reads the data of a KindEOF or KindClose event.
func ParseSide(b []byte) (Side, error) {
	if len(b) != 1 || b[0] < byte(FromPerson) || b[0] > byte(FromJump) {
		return 0, fmt.Errorf("%w: side", ErrEvent)
	}
	return Side(b[0]), nil
}

// check holds an event against FORMAT.md "Events".
func (e Event) check() error {
	onChannel := e.Chan != 0
	var err error
	switch e.Kind {
	case KindInput, KindOutput, KindStderr:
		if !onChannel {
			err = fmt.Errorf("%w: data outside a channel", ErrEvent)
		}
		return err
	case KindOpen:
		_, err = ParseOpening(e.Data)
	case KindRequest:
		_, err = ParseRequest(e.Data)
	case KindEOF, KindClose:
		_, err = ParseSide(e.Data)
	case KindGlobal:
		onChannel = !onChannel
		_, err = ParseRequest(e.Data)
	case KindWall:
		onChannel = !onChannel
		_, err = ParseWall(e.Data)
	case KindWatcher:
		onChannel = !onChannel
		_, err = ParseWatching(e.Data)
	case KindAct:
		onChannel = true
		_, err = ParseAction(e.Data)
	case KindMark:
		return nil
	default:
		return fmt.Errorf("%w: unknown kind %#02x", ErrEvent, byte(e.Kind))
	}
	if err == nil && !onChannel {
		err = fmt.Errorf("%w: %q on channel %d", ErrEvent, e.Kind, e.Chan)
	}
	return err
}

// appendRecord encodes a record's plaintext. Times that fall behind last are lifted to it: two readers of two channels
// may come in the other order than their clocks were read.
func appendRecord(b []byte, events []Event, last time.Duration) ([]byte, time.Duration, error) {
	start := len(b)
	var base time.Duration = last
	if len(events) > 0 && events[0].T > last {
		base = events[0].T
	}
	base = base.Truncate(time.Microsecond)
	b = binary.AppendUvarint(b, uint64(base/time.Microsecond))
	t := base
	for _, e := range events {
		if err := e.check(); err != nil {
			return nil, 0, err
		}
		var dt time.Duration
		if e.T > t {
			dt = (e.T - t).Truncate(time.Microsecond)
			t += dt
		}
		b = append(b, byte(e.Kind))
		b = binary.AppendUvarint(b, uint64(dt/time.Microsecond))
		b = binary.AppendUvarint(b, uint64(e.Chan))
		b = binary.AppendUvarint(b, uint64(len(e.Data)))
		b = append(b, e.Data...)
	}
	if n := len(b) - start; n > MaxRecord {
		return nil, 0, fmt.Errorf("%w: record of %d bytes, at most %d", ErrEvent, n, MaxRecord)
	}
	return b, t, nil
}

// parseRecord reads a record's plaintext. The events' data lies in b.
func parseRecord(b []byte, last time.Duration) ([]Event, time.Duration, error) {
	if len(b) > MaxRecord {
		return nil, 0, fmt.Errorf("%w: record too long", ErrEvent)
	}
	p := parser{b: b}
	t, ok := micros(p.uvarint(), 0)
	if p.bad || !ok || t < last {
		return nil, 0, fmt.Errorf("%w: record's time", ErrEvent)
	}
	var es []Event
	for len(p.b) > 0 {
		kind := Kind(p.u8())
		if kind == 0 { // padding
			for _, c := range p.b {
				if c != 0 {
					return nil, 0, fmt.Errorf("%w: padding", ErrEvent)
				}
			}
			break
		}
		dt, ch, n := p.uvarint(), p.uvarint(), p.uvarint()
		if p.bad || ch > math.MaxUint32 || n > uint64(len(p.b)) {
			return nil, 0, fmt.Errorf("%w: %q cut short", ErrEvent, kind)
		}
		if t, ok = micros(dt, t); !ok {
			return nil, 0, fmt.Errorf("%w: time", ErrEvent)
		}
		e := Event{T: t, Kind: kind, Chan: uint32(ch), Data: p.b[:n:n]}
		p.b = p.b[n:]
		if err := e.check(); err != nil {
			return nil, 0, err
		}
		es = append(es, e)
	}
	return es, t, nil
}

// maxTime bounds a session's time; without it a sum of uvarints could overflow a Duration.
const maxTime = 10 * 365 * 24 * time.Hour

// micros adds us to t within maxTime.
func micros(us uint64, t time.Duration) (time.Duration, bool) {
	if us > uint64(maxTime/time.Microsecond) {
		return 0, false
	}
	t += time.Duration(us) * time.Microsecond
	return t, t <= maxTime
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// parser reads the encodings of FORMAT.md; the first fault makes it bad and everything after it zero.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n > len(p.b) {
		p.bad = true
		return nil
	}
	r := p.b[:n:n]
	p.b = p.b[n:]
	return r
}

func (p *parser) u8() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) u32() uint32 {
	if b := p.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) bool() bool {
	v := p.u8()
	if v > 1 {
		p.bad = true
	}
	return v == 1
}

func (p *parser) str() []byte {
	n := p.u32()
	if p.bad || uint64(n) > uint64(len(p.b)) {
		p.bad = true
		return nil
	}
	return p.take(int(n))
}

// uvarint refuses what isn't in its shortest form: one value, one spelling.
func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if p.bad || n <= 0 || n > 1 && p.b[n-1] == 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[n:]
	return v
}

// done: all was read, and nothing was bad.
func (p *parser) done() bool { return !p.bad && len(p.b) == 0 }
