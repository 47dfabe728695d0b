package s3

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"breakglass/transcript"
)

// A recording in so many pieces that its manifest couldn't be read back is not acknowledged as whole: the ledger would take for stored what nobody can read any more.
func TestAManifestThatIsWrittenIsRead(t *testing.T) {
	var mu sync.Mutex
	kept := map[string][]byte{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("x-amz-version-id", "v1")
		if r.Method == http.MethodPut {
			kept[r.URL.Path], _ = io.ReadAll(r.Body)
			return
		}
		w.Write(kept[r.URL.Path])
	}))
	defer srv.Close()
	s, err := New(Config{Endpoint: srv.URL, Region: "x", Bucket: "b", AccessKey: "a", SecretKey: "s", Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	const pieces = 400_000 // of 100 bytes each: 40 MB of recording
	st := &pending{known: true}
	for i := range int64(pieces) {
		st.objects = append(st.objects, object{Key: pieceKey(id, i*100), Version: fmt.Sprintf("%032d", i), SHA256: transcript.SHA256([]byte{1}), Offset: i * 100, Size: 100})
	}
	s.streams[id] = st
	if ref, err := s.FinishRef(id, pieces*100); err == nil {
		t.Errorf("acknowledged with a manifest of %d bytes", ref.Size)
	}
	if len(kept) > 0 {
		t.Errorf("%d objects were written", len(kept))
	}
	st.objects = st.objects[:1000]
	if _, err := s.FinishRef(id, 1000*100); err != nil {
		t.Errorf("one that can be read: %v", err)
	}
}
