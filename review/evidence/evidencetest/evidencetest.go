// Package evidencetest is a whole installation for tests of evidence: a ledger by ledgertest, recordings sealed by package transcript, and
// answers as the CA gives them. What it makes verifies, until a test changes something. No shipped program links it.
package evidencetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/ledger/ledgertest"
	"breakglass/transcript"
)

// World is a CA's ledger and store, with alice's grant and what she did.
type World struct {
	*ledgertest.Log
	Alice, Bob *ledgertest.Person
	Jump       *ledgertest.Jump
	Reader     *age.X25519Identity // bob's
	Granted    *ledgertest.Grant
	Streams    map[name.SessionID][]byte
	Envelopes  map[name.SessionID][]byte
	Pins       string // a checkpoint from before the grant
}

// Begin is an installation before anybody asked for anything.
func Begin(t testing.TB) *World {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w := &World{Log: ledgertest.New(t), Reader: id, Streams: map[name.SessionID][]byte{}, Envelopes: map[name.SessionID][]byte{}}
	w.Alice, w.Bob = w.Enrol("alice"), w.Enrol("bob")
	w.Jump = w.Join("jump-a")
	w.Recipient(w.Bob, id.Recipient().String())
	w.Set(nil, ledgertest.To(id.Recipient().String(), "bob"))
	w.Pins = w.Checkpoint()
	w.Grant(w.Bob, nil) // somebody else's request stands between
	w.Now = w.Now.Add(time.Minute)
	return w
}

// Granted is a World in which alice was let in and did sessions sessions.
func Granted(t testing.TB, sessions int) *World {
	t.Helper()
	w := Begin(t)
	w.Granted = w.Log.Grant(w.Alice, nil)
	for range sessions {
		w.Record(t, "")
	}
	return w
}

// Record is a session: opened, recorded, ended (or crashed), stored.
func (w *World) Record(t testing.TB, how string) *ledgertest.Session {
	t.Helper()
	s := w.Open(w.Granted, w.Jump, []string{w.Reader.Recipient().String()}, []name.Person{"bob"})
	if how == "open" {
		return s
	}
	pin := w.Pin()
	k := transcript.NewKey()
	env, err := transcript.Envelope([]age.Recipient{w.Reader.Recipient()}, k)
	if err != nil {
		t.Fatal(err)
	}
	tw, err := transcript.NewWriter(transcript.Header{Session: s.ID, Jump: "jump-a", Origin: ledgertest.Origin, Person: "alice", Login: "root", Host: "web01",
		Door: transcript.DoorHop, T0: w.Now.UnixMicro(), Bind: transcript.Hash(ledger.EntryHash(s.Entry)),
		Prev: transcript.Checkpoint{Size: pin.Size, Hash: transcript.Hash(pin.Root)}, Env: transcript.SHA256(env)}, k)
	if err != nil {
		t.Fatal(err)
	}
	stream := slices.Clone(tw.HeaderFrame())
	for i := range 3 {
		f, err := tw.Seal([]transcript.Event{{T: time.Duration(i) * time.Second, Kind: transcript.KindInput, Chan: 1, Data: []byte("ls\n")},
			{T: time.Duration(i) * time.Second, Kind: transcript.KindOutput, Chan: 1, Data: []byte("file of " + string(s.ID) + "\r\n")}})
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, f...)
		if i == 1 { // as the jump signs while it runs
			h := tw.Head()
			head := ledger.Head{Frames: int64(h.Frames), Chain: statement.Hash(h.Chain), Bytes: int64(len(stream))}
			switch how {
			case "rewritten":
				head.Chain[0] ^= 1
			case "stretched":
				head.Bytes++
			}
			w.Fact(w.Jump, s.Subject, &ledger.SessionHead{Head: head})
		}
	}
	out := int64(3 * len("file of "+string(s.ID)+"\r\n"))
	if how != "crashed" {
		zero := 0
		f, err := tw.End("closed", &zero, 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, f...)
	}
	h := tw.Head()
	head := ledger.Head{Frames: int64(h.Frames), Chain: statement.Hash(h.Chain), Bytes: int64(len(stream))}
	w.Now = w.Now.Add(time.Minute)
	if how == "crashed" {
		w.Fact(w.Jump, s.Subject, &ledger.SessionCrashed{Head: head, Envelope: ledger.EntryHash(env)})
	} else {
		w.Fact(w.Jump, s.Subject, &ledger.SessionEnded{Reason: "closed", Exit: "0", Seconds: 3, BytesIn: 9, BytesOut: out, Head: head, Envelope: ledger.EntryHash(env)})
	}
	if how != "unstored" {
		w.Append(&ledger.Entry{Actor: ledger.ActorCA, Subject: s.Subject, Facts: &ledger.TranscriptStored{Head: head, SHA256: sha256.Sum256(stream), Envelope: ledger.EntryHash(env)}})
		w.Streams[s.ID] = stream
	}
	w.Envelopes[s.ID] = env
	return s
}

// Read hands out all envelopes, each after an entry.
func (w *World) Read() map[name.SessionID][]byte {
	pass := w.Pass(w.Bob)
	for id := range w.Envelopes {
		w.Append(&ledger.Entry{Actor: ledger.PersonActor("bob"), Subject: ledger.Subject{Request: id.Request(), Session: id}, Facts: &ledger.TranscriptRead{Pass: pass, Why: "review"}})
	}
	return w.Envelopes
}

// World is a Source, as the CA is.
func (w *World) Evidence(_ context.Context, id name.RequestID) (*api.Evidence, error) {
	e := &api.Evidence{Request: id, Checkpoint: w.Checkpoint()}
	signers, about := map[name.Person]bool{"alice": true}, map[name.RequestID]bool{id: true}
	for _, raw := range w.Entries {
		x, err := ledger.Decode(raw)
		if err != nil {
			return nil, err
		}
		var r statement.Request
		if statement.Parse([]byte(x.Statement), &r) == nil && r.Of == id { // an extension, under an id of its own
			about[r.ID] = true
		}
		if _, ok := x.Facts.(*ledger.ApprovalGiven); ok && about[x.Subject.Request] {
			signers[x.Subject.Person] = true
		}
	}
	for i, raw := range w.Entries {
		x, err := ledger.Decode(raw)
		if err != nil {
			return nil, err
		}
		switch x.Facts.(type) {
		case *ledger.SiteCreated, *ledger.SiteChanged, *ledger.PolicyAdopted, *ledger.PolicyText, *ledger.PolicySigned, *ledger.Founding, *ledger.JumpJoined:
		case *ledger.RecipientsChanged:
		case *ledger.KeyEnrolled, *ledger.KeySuspended:
			if !signers[x.Subject.Person] {
				continue
			}
		default:
			if !about[x.Subject.Request] {
				continue
			}
		}
		e.Entries = append(e.Entries, api.ProvenEntry{Index: int64(i), Entry: string(raw), Proof: w.Prove(int64(i))})
	}
	return e, nil
}

func (w *World) Consistency(_ context.Context, from, to int64) (*api.ConsistencyProof, error) {
	p, err := ledger.ProveConsistency(from, to, w.Tree)
	return &api.ConsistencyProof{From: from, To: to, Proof: p}, err
}

func (w *World) Transcript(_ context.Context, id name.SessionID) (io.ReadCloser, error) {
	b, ok := w.Streams[id]
	if !ok {
		return nil, &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: "no such transcript"}
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}
