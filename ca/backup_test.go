package ca_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"breakglass/ca"
	"breakglass/ca/api"
	"breakglass/ca/api/client"
	"breakglass/ca/catest"
	"breakglass/internal/name"
	"breakglass/ledger"
)

// kept is what a jump keeps of a ledger.
type kept struct {
	ledger.Memory
	note    string
	entries [][]byte
}

func (k *kept) Head() (string, error)         { return k.note, nil }
func (k *kept) Entry(n int64) ([]byte, error) { return k.entries[n], nil }

// keep is what a jump that cosigned the CA's present head has.
func keep(t *testing.T, c *catest.CA) *kept {
	t.Helper()
	k := &kept{note: c.Checkpoint()}
	head, err := ledger.OpenCheckpoint(k.note, c.Pins.Site.LedgerKey)
	catest.Must(t, err)
	for _, b := range c.Raw()[:head.Size] {
		catest.Must(t, k.Append(b))
		k.entries = append(k.entries, b)
	}
	return k
}

func backup(t *testing.T, c *catest.CA) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "backup")
	_, err := ca.Backup(context.Background(), ca.BackupConfig{Dir: c.Dir, To: to, Now: time.Now, Head: c.HeadAt})
	catest.Must(t, err)
	return to
}

// lose ends the CA, takes all that it has away, and puts back what the backup holds.
func lose(t *testing.T, c *catest.CA, from string) *ca.Restored {
	t.Helper()
	c.Stop()
	c.Destroy()
	r, err := ca.Restore(context.Background(), ca.RestoreConfig{From: from, Dir: c.Dir, LedgerKey: c.Pins.Site.LedgerKey, Now: time.Now})
	catest.Must(t, err)
	c.Start()
	return r
}

func refusedAs(t *testing.T, err error, want string) *api.Problem {
	t.Helper()
	p := new(api.Problem)
	if !errors.As(err, &p) || p.Code != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	return p
}

// All that is destroyed comes back, out of a backup and of what one jump keeps, and the CA goes on as if nothing had been.
func TestACAThatIsLostComesBack(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice, bob := c.Enrol("alice"), c.Enrol("bob")
	_, err := bob.Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	catest.Must(t, err)
	j := c.Join("jump-a")
	before, err := alice.Request("root", "web01")
	catest.Must(t, err)
	b := backup(t, c)

	after, err := alice.Request("root", "web01")
	catest.Must(t, err)
	opened, err := j.Open(j.Question(after))
	catest.Must(t, err)
	carol := c.Enrol("carol")
	k := keep(t, c)

	r := lose(t, c, b)
	if r.Report.Entries >= int64(len(k.entries)) || !r.Report.OK() {
		t.Fatalf("restored %d entries of %d, %v", r.Report.Entries, len(k.entries), r.Report.Findings)
	}
	// It issues nothing, and says so before anybody touches a key.
	_, err = alice.Ask("root", "web01", nil)
	p := refusedAs(t, err, api.CodeBehind)
	if p.Status != 503 || len(p.Next) == 0 {
		t.Errorf("%+v", p)
	}
	if _, err := c.Invite(context.Background(), api.ForPerson, "dave"); err == nil {
		t.Error("a frozen ledger took an invite")
	}
	if n := len(c.Raw()); int64(n) != r.Report.Entries {
		t.Fatalf("%d entries, %d were restored: something was appended", n, r.Report.Entries)
	}
	st, err := c.Status(context.Background())
	catest.Must(t, err)
	if st.Frozen == nil || st.Frozen.Why != ca.FrozenRestored || len(st.Frozen.Waits) != 1 || st.Frozen.Waits[0] != "jump-a" {
		t.Fatalf("%+v", st.Frozen)
	}
	// A start changes nothing of it.
	c.Stop()
	c.Start()
	_, err = alice.Ask("root", "web01", nil)
	refusedAs(t, err, api.CodeBehind)

	s, err := j.Client.OfferTail(context.Background(), k)
	catest.Must(t, err)
	if s.Wanted || s.Entries <= int64(len(k.entries)) {
		t.Fatalf("%+v", s)
	}
	raw := c.Raw()
	for i, want := range k.entries {
		if string(raw[i]) != string(want) {
			t.Fatalf("entry %d came back as another", i)
		}
	}
	// What was granted before and after the backup stands, and so does everybody's key.
	for _, g := range []*catest.Grant{before, after} {
		q, err := c.Client(g.Key).Request(context.Background(), g.ID)
		catest.Must(t, err)
		if q.State != "allowed" || q.Granted == nil || q.Granted.Certificate != g.Certificate {
			t.Errorf("%s is %q", g.ID, q.State)
		}
	}
	q, err := c.Client(after.Key).Request(context.Background(), after.ID)
	catest.Must(t, err)
	if len(q.Sessions) != 1 || q.Sessions[0].ID != opened.Session {
		t.Errorf("sessions %+v, opened was %s", q.Sessions, opened.Session)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Error(err)
	}
	if _, err := carol.Pass(); err != nil { // enrolled after the backup
		t.Error(err)
	}
	if _, err := j.Open(j.Question(after)); err != nil {
		t.Error(err)
	}
	e := c.Entries()[len(k.entries)]
	f, ok := e.Facts.(*ledger.CARestored)
	if !ok || f.Entries != r.Report.Entries || f.Lost != 0 || len(f.Jumps) != 1 || f.Jumps[0] != name.Jump("jump-a") {
		t.Errorf("went on with %s %+v", e.Type(), e.Facts)
	}
	c.Audit()
	// The next start finds nothing frozen.
	c.Stop()
	c.Start()
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Error(err)
	}
}

// What nobody has is lost, on local root's word alone, and its entry says so.
func TestWhatNobodyKeepsIsGivenUpByName(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	c.Join("jump-a")
	b := backup(t, c)
	_, err := alice.Request("root", "web01")
	catest.Must(t, err)
	lost := c.Checkpoint()
	size := int64(len(c.Raw()))
	r := lose(t, c, b)

	// A client that saw more than there is says so, by the head that it holds.
	_, err = c.Client(nil).SeenHead(context.Background(), lost)
	catest.Must(t, err)
	err = c.Resume(context.Background(), &ca.ResumeAsk{})
	p := refusedAs(t, err, api.CodeBehind)
	if want := "breakglass-ca resume --without jump-a --lose"; len(p.Next) != 1 || !strings.Contains(p.Next[0], want) {
		t.Fatalf("%+v", p)
	}
	catest.Must(t, c.Resume(context.Background(), &ca.ResumeAsk{Without: []name.Jump{"jump-a"}, Lose: size - r.Report.Entries}))
	e := c.Entries()[r.Report.Entries]
	f, ok := e.Facts.(*ledger.CARestored)
	if !ok || e.Actor != ledger.ActorRoot || f.Lost != size-r.Report.Entries || len(f.Silent) != 1 {
		t.Fatalf("%s %+v", e.Type(), e.Facts)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Error(err)
	}
	c.Audit()
	// Whoever saw what was given up shows it again: now that is a fork, and nothing is issued any more.
	_, err = c.Client(nil).SeenHead(context.Background(), lost)
	refusedAs(t, err, api.CodeForked)
	_, err = alice.Ask("root", "web01", nil)
	refusedAs(t, err, api.CodeForked)
	c.Stop()
	c.Start()
	_, err = alice.Ask("root", "web01", nil)
	p = refusedAs(t, err, api.CodeForked)
	if len(p.Next) < 2 {
		t.Errorf("%+v", p)
	}
	if err := c.Resume(context.Background(), &ca.ResumeAsk{}); err == nil {
		t.Error("a fork was resumed")
	}
}

// A database that somebody put back beside its own files is noticed at the start, before anything is appended.
func TestADatabaseThatWasPutBackIsNoticed(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	j := c.Join("jump-a")
	b := backup(t, c)
	_, err := alice.Request("root", "web01")
	catest.Must(t, err)
	c.Stop()
	c.Start() // its stop is an entry, too
	k := keep(t, c)
	c.Stop()
	old, err := os.ReadFile(filepath.Join(b, "ca.db"))
	catest.Must(t, err)
	catest.Must(t, os.WriteFile(filepath.Join(c.Dir, "ca.db"), old, 0o600))
	os.Remove(filepath.Join(c.Dir, "ca.db-wal"))
	os.Remove(filepath.Join(c.Dir, "ca.db-shm"))
	c.Start()
	_, err = alice.Ask("root", "web01", nil)
	refusedAs(t, err, api.CodeBehind)
	st, err := c.Status(context.Background())
	catest.Must(t, err)
	if st.Frozen == nil || st.Frozen.Why != ca.FrozenBehind || st.Frozen.Known <= st.Entries {
		t.Fatalf("%+v", st.Frozen)
	}
	// The jump's copy lacks the last stop: what is known to be missing isn't back.
	s, err := j.Client.OfferTail(context.Background(), k)
	catest.Must(t, err)
	if !s.Wanted {
		t.Fatal("it went on without an entry that it had signed")
	}
	catest.Must(t, c.Resume(context.Background(), &ca.ResumeAsk{Lose: st.Frozen.Known - s.Entries}))
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Error(err)
	}
	c.Audit()
}

// A CA that went on from an old copy is shown the other history, and believes it: its own key signed it.
func TestAForkEndsIssuing(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	j := c.Join("jump-a")
	b := backup(t, c)
	for range 3 {
		_, err := alice.Request("root", "web01")
		catest.Must(t, err)
	}
	k := keep(t, c)
	lose(t, c, b)
	catest.Must(t, c.Resume(context.Background(), &ca.ResumeAsk{Without: []name.Jump{"jump-a"}}))
	open, err := alice.Request("root", "web01")
	catest.Must(t, err)
	_, err = j.Client.OfferTail(context.Background(), k)
	p := refusedAs(t, err, api.CodeForked)
	if !strings.Contains(p.Detail, "jump jump-a") {
		t.Errorf("%s", p.Detail)
	}
	n := len(c.Raw())
	for range 2 {
		_, err = alice.Ask("root", "web01", nil)
		refusedAs(t, err, api.CodeForked)
		c.Stop()
		c.Start()
	}
	if len(c.Raw()) != n {
		t.Error("a forked ledger grew")
	}
	// What was granted is read all the same, and the jump's heartbeat goes on: what runs, runs.
	if _, err := c.Client(open.Key).Request(context.Background(), open.ID); err != nil {
		t.Error(err)
	}
	if _, err := j.Client.JumpOrders(context.Background(), -1, 0); err != nil {
		t.Error(err)
	}
	// The way out is the old copy again, and what the jump keeps.
	lose(t, c, b)
	if s, err := j.Client.OfferTail(context.Background(), k); err != nil || s.Wanted {
		t.Fatal(s, err)
	}
	if _, err := alice.Request("root", "web01"); err != nil {
		t.Error(err)
	}
	c.Audit()
}

// Nothing of a tail is believed that doesn't prove itself, and nothing of one that is refused stays.
func TestTailsThatAreRefused(t *testing.T) {
	c := catest.New(t, catest.Config{})
	alice := c.Enrol("alice")
	j := c.Join("jump-a")
	b := backup(t, c)
	_, err := alice.Request("root", "web01")
	catest.Must(t, err)
	k := keep(t, c)
	other := catest.New(t, catest.Config{})
	lose(t, c, b)
	theirs, err := ledger.OpenCheckpoint(k.note, c.Pins.Site.LedgerKey)
	catest.Must(t, err)
	size := int64(len(c.Raw()))
	for what, change := range map[string]func(*api.Tail){
		"another ledger's head":     func(t *api.Tail) { t.Checkpoint = other.Checkpoint() },
		"no signature":              func(t *api.Tail) { t.Checkpoint = strings.Split(t.Checkpoint, "\n\n")[0] + "\n\n" },
		"an entry changed":          func(t *api.Tail) { t.Entries[0] = bytes.Replace(t.Entries[0], []byte(`"v":1`), []byte(`"v": 1`), 1) },
		"an entry left out":         func(t *api.Tail) { t.Entries = t.Entries[1:] },
		"two entries swapped":       func(t *api.Tail) { t.Entries[0], t.Entries[1] = t.Entries[1], t.Entries[0] },
		"more than the head signs":  func(t *api.Tail) { t.Entries = append(t.Entries, t.Entries[0]) },
		"another proof":             func(t *api.Tail) { t.Proof = t.PrefixProof },
		"another root, unproved":    func(t *api.Tail) { t.Prefix[0] ^= 1 },
		"no proof of the beginning": func(t *api.Tail) { t.PrefixProof = nil },
		"no JSON":                   func(t *api.Tail) { t.Entries[0] = []byte("{") },
		"from elsewhere":            func(t *api.Tail) { t.From-- },
	} {
		piece, err := client.TailPiece(k, k.note, theirs, size)
		catest.Must(t, err)
		change(piece)
		_, err = j.Client.Tail(context.Background(), piece)
		refusedAs(t, err, api.CodeTail)
		if n := int64(len(c.Raw())); n != size {
			t.Fatalf("%s: %d entries, had %d", what, n, size)
		}
	}
	piece, err := client.TailPiece(k, k.note, theirs, size)
	catest.Must(t, err)
	_, err = c.Client(nil).Tail(context.Background(), piece)
	if err == nil {
		t.Error("a stranger's tail was taken")
	}
	if s, err := j.Client.OfferTail(context.Background(), k); err != nil || s.Wanted {
		t.Fatal(s, err)
	}
	c.Audit()
}

// FuzzParseManifest: a manifest comes with a backup from anywhere. Whatever it says, no path of it leads out of the backup.
func FuzzParseManifest(f *testing.F) {
	good := `{"v":1,"time":"2026-11-24T03:00:00Z","version":"0.1","name":"x","profile":"demo","origin":"o","epoch":1,"entries":3,"checkpoint":"c","files":[` +
		`{"path":"ca.db","size":1,"sha256":"` + strings.Repeat("00", 32) + `"},{"path":"config.toml","size":1,"sha256":"` + strings.Repeat("00", 32) + `"}],"elsewhere":[]}`
	f.Add([]byte(good))
	for _, bad := range []string{"../../etc/passwd", "/etc/passwd", "a/../../b", "frozen.json", "restoring", "", ".", "keys/./x"} {
		f.Add([]byte(strings.Replace(good, "config.toml", bad, 1)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ca.ParseManifest(b)
		if err != nil {
			if !errors.Is(err, ca.ErrBackup) {
				t.Errorf("%v", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, file := range m.Files {
			if !filepath.IsLocal(file.Path) || filepath.Clean(file.Path) != file.Path || seen[file.Path] {
				t.Errorf("took %q", file.Path)
			}
			seen[file.Path] = true
		}
		if !seen["ca.db"] || !seen["config.toml"] {
			t.Error("took a manifest without a ledger")
		}
	})
}

// Each answer names the CA's version and its ledger; a client that names none is of the first version, and one of a version before that is told what to do.
func TestTheInterfaceNamesItsVersion(t *testing.T) {
	c := catest.New(t, catest.Config{})
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for version, want := range map[string]int{"": 200, "1": 200, "2": 200, "99": 200, "0": 400, "x": 400} {
		q, err := http.NewRequest("GET", "https://"+c.Address+"/v1/site", nil)
		catest.Must(t, err)
		if version != "" {
			q.Header.Set(api.HeaderVersion, version)
		}
		resp, err := h.Do(q)
		catest.Must(t, err)
		resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get(api.HeaderVersion) != strconv.Itoa(api.Version) || resp.Header.Get(api.HeaderOrigin) != c.Pins.Site.Origin {
			t.Errorf("version %q: %d, %v", version, resp.StatusCode, resp.Header)
		}
	}
}
