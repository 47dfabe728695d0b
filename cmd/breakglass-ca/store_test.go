package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"breakglass/internal/name"
	"breakglass/internal/road"
	"breakglass/internal/statement"
	"breakglass/ledger"
	"breakglass/transcript"
	"breakglass/transcript/s3"
)

// A file of which the policy wants that nobody can delete it, and which anybody could, is no recording as it should be.
func TestWhatThePolicyWantsOfFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root sets the immutable flag")
	}
	root, err := os.MkdirTemp("", "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { road.Remove(root) })
	st, err := transcript.NewFileStore(filepath.Join(root, "ca", "store"))
	if err != nil {
		t.Fatal(err)
	}
	const id = name.SessionID("k7f-2mq/1")
	stream, env := []byte("a stream"), []byte("an envelope")
	if _, err := st.Put(id, 0, stream); err != nil {
		t.Fatal(err)
	}
	stored, err := st.Finish(id, int64(len(stream)))
	if err != nil || st.PutEnvelope(id, env) != nil {
		t.Fatal(err)
	}
	if !stored.Immutable {
		t.Skip("this file system has no immutable flag")
	}
	r := &recorded{ids: []name.SessionID{id}, opened: map[name.SessionID]*opened{id: {at: time.Now()}},
		stored: map[name.SessionID]*ledger.TranscriptStored{id: {Head: ledger.Head{Bytes: int64(len(stream))}, SHA256: statement.Hash(transcript.SHA256(stream)), Envelope: ledger.EntryHash(env)}}}
	want := func(what string, own bool, fault string) {
		t.Helper()
		_, faults, err := verifyStore(r, st, own)
		if err != nil || (fault == "") != (len(faults) == 0) || fault != "" && !strings.Contains(faults[0].What, fault) {
			t.Errorf("%s: %+v, %v", what, faults, err)
		}
	}
	want("the policy wants nothing", true, "")
	r.opened[id].keep = s3.Keep{Hold: true}
	want("a hold, and it is immutable", true, "")
	road.Mutable(root)
	want("a hold, and it isn't", true, "not immutable")
	want("the same in a second copy", false, "")
	r.opened[id].keep = s3.Keep{For: time.Hour}
	want("retained, and it isn't", true, "not immutable")
	r.opened[id].keep = s3.Keep{}
	want("nothing wanted of it", true, "")
	delete(r.opened, id)
	want("of no session", true, "no such session")
}
