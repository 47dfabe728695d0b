package ship

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	mrand "math/rand/v2"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"breakglass/ca/api"
	"breakglass/internal/name"
	"breakglass/jump/journal"
	"breakglass/transcript"
)

// shaky is a store that fails half of its calls: before doing them, or after.
type shaky struct {
	t        *testing.T
	mu       sync.Mutex
	stream   []byte
	envelope []byte
	finished *api.FinishAsk
}

func (s *shaky) call(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, after := mrand.IntN(4) == 0, mrand.IntN(4) == 0
	if before {
		return errors.New("lost on the way")
	}
	if err := f(); err != nil {
		s.t.Error(err)
		return err
	}
	if after {
		return errors.New("answer lost")
	}
	return nil
}

func (s *shaky) TranscriptSize(context.Context, name.SessionID) (a *api.Size, err error) {
	err = s.call(func() error {
		a = &api.Size{Size: int64(len(s.stream)), Finished: s.finished != nil}
		return nil
	})
	return a, err
}

func (s *shaky) PutTranscript(_ context.Context, _ name.SessionID, at int64, piece []byte) (*api.Size, error) {
	return &api.Size{}, s.call(func() error {
		if at != int64(len(s.stream)) || s.finished != nil || len(piece) > api.MaxPiece {
			return errors.New("a piece in the wrong place")
		}
		s.stream = append(s.stream, piece...)
		return nil
	})
}

func (s *shaky) PutEnvelope(_ context.Context, _ name.SessionID, env []byte) error {
	return s.call(func() error {
		if s.finished != nil {
			return errors.New("envelope after the end")
		}
		s.envelope = bytes.Clone(env)
		return nil
	})
}

func (s *shaky) FinishTranscript(_ context.Context, _ name.SessionID, ask *api.FinishAsk) error {
	return s.call(func() error {
		s.finished = ask
		return nil
	})
}

func (s *shaky) WaitAcked(context.Context, int64) error { return nil }

func TestARecordingGetsThereOverABadLine(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	j, _, err := journal.Open(journal.Config{Dir: t.TempDir(), SegmentSize: 4 << 20, Segments: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	key := transcript.NewKey()
	env, err := transcript.Envelope([]age.Recipient{id.Recipient()}, key)
	if err != nil {
		t.Fatal(err)
	}
	w, err := transcript.NewWriter(transcript.Header{Session: "k7f-2mq/1", Jump: "jump-a", Origin: "o", Person: "alice", Login: "root", Host: "web01", Door: transcript.DoorHop,
		T0: 1, Bind: transcript.SHA256([]byte("entry")), Env: transcript.SHA256(env)}, key)
	if err != nil {
		t.Fatal(err)
	}
	sid := w.Header().SID
	var stream []byte
	add := func(k journal.Kind, b []byte) {
		t.Helper()
		if err := j.Append(journal.Entry{Stream: sid, Kind: k, Data: b}); err != nil {
			t.Fatal(err)
		}
		if k == KindFrame {
			stream = append(stream, b...)
		}
	}
	add(KindFrame, w.HeaderFrame())
	add(KindEnvelope, env)
	for range 12 {
		f, err := w.Seal([]transcript.Event{{Kind: transcript.KindOutput, Chan: 1, Data: make([]byte, 250_000)}})
		if err != nil {
			t.Fatal(err)
		}
		add(KindFrame, f)
	}
	end, err := w.End("closed", nil, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	add(KindFrame, end)

	store := &shaky{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	s := New(ctx, Config{Journal: j, Store: store, Facts: store, Logger: slog.New(slog.DiscardHandler)})
	// Its end isn't told yet: it must not leave.
	if err := s.attempt(sid); err == nil {
		t.Fatal("shipped before its end was told")
	}
	add(KindTold, Mark(1))
	for i := 0; s.attempt(sid) != nil; i++ {
		if i > 500 {
			t.Fatal("never")
		}
	}
	cancel()
	s.Wait()
	if !bytes.Equal(store.stream, stream) || !bytes.Equal(store.envelope, env) {
		t.Errorf("%d bytes of %d", len(store.stream), len(stream))
	}
	if store.finished == nil || store.finished.Head.Bytes != int64(len(stream)) || [32]byte(store.finished.SHA256) != sha256.Sum256(stream) ||
		[32]byte(store.finished.Head.Chain) != [32]byte(w.Head().Chain) {
		t.Errorf("finished as %+v", store.finished)
	}
	if len(j.Streams()) != 0 {
		t.Error("still in the journal")
	}
}
