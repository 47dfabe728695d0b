package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/crypto/ssh"

	"breakglass/internal/road"
	"breakglass/internal/softkey"
	"breakglass/internal/sshcert"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// loads are the numbers of clients; each client is a person with a key of their own, for a key's counter has to rise.
var loads = []int{1, 8, 64}

const (
	mostClients = 64
	application = "ssh:breakglass"
	// subjects is how many client keys are made beforehand and used in turn, as the peer's load generator does.
	subjects    = 20_000
	callTimeout = 30 * time.Second
)

// loadPolicy adds the people of the load.
func loadPolicy() string {
	var b strings.Builder
	for i := range mostClients {
		fmt.Fprintf(&b, "\n[people.%s]\ngroups = [\"oncall\"]\n", loadPerson(i))
	}
	return b.String()
}

func loadPerson(i int) string { return fmt.Sprintf("load-%02d", i) }

// loadLimits takes the limits of unsigned asks out of the way: what is measured is the CA, not them.
func (b *bench) loadLimits() error {
	path := filepath.Join(b.Dir, "ca", "config.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	conf := map[string]any{}
	if err := toml.Unmarshal(text, &conf); err != nil {
		return err
	}
	conf["limits"] = map[string]any{"network": 1e6, "network_burst": 1_000_000, "all": 1e6, "all_burst": 1_000_000}
	if text, err = toml.Marshal(conf); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// issuing measures certificates that are durable when they are handed out: ours, the whole exchange of each (ask, statement, signature,
// certificate), and step-ca's, one request with a one-time token each.
func (b *bench) issuing(ctx context.Context) error {
	b.End("jump", false)
	b.End("sshd", false)
	b.End("ca", false)
	if err := b.loadLimits(); err != nil {
		return err
	}
	if err := b.StartCA(ctx); err != nil {
		return err
	}
	callers := make([]*caller, mostClients)
	for i := range callers {
		var err error
		if callers[i], err = b.newCaller(ctx, loadPerson(i)); err != nil {
			return fmt.Errorf("enrolling %s: %w", loadPerson(i), err)
		}
		defer callers[i].http.CloseIdleConnections()
	}
	keys := make([]ssh.PublicKey, subjects)
	for i := range keys {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		if keys[i], err = ssh.NewPublicKey(pub); err != nil {
			return err
		}
	}
	peer, err := b.startStepCA(ctx)
	switch {
	case errors.Is(err, errNoPeer):
		fmt.Fprintln(os.Stderr, "bench: no figures beside step-ca:", err)
	case err != nil:
		return err
	default:
		defer peer.stop()
	}
	handed := 0
	us := func() (time.Duration, error) { return cpuTime(b.Proc("ca").Cmd.Process.Pid) }
	for _, n := range loads {
		ours, theirs := &series{}, &series{}
		for range b.cfg.rounds {
			r, err := metered(us, func() (result, error) { return load(ctx, callers[:n], keys, b.cfg.span) })
			if err != nil {
				return err
			}
			handed += r.Certs + n // and the first of each
			ours.add(r)
			if peer != nil {
				r, err := metered(peer.cpuTime, func() (result, error) { return peer.load(ctx, n, b.cfg.span) })
				if err != nil {
					return err
				}
				theirs.add(r)
			}
		}
		b.figure(fmt.Sprintf("certs_per_s_%d", n), median(ours.rate), "1/s")
		b.figure(fmt.Sprintf("certs_p50_ms_%d", n), median(ours.p50), "ms")
		b.figure(fmt.Sprintf("certs_p99_ms_%d", n), median(ours.p99), "ms")
		if n == mostClients {
			b.figure("cert_p99_ms_64", median(ours.p99), "ms")
		}
		b.figure(fmt.Sprintf("cert_cpu_ms_%d", n), median(ours.cpu), "ms")
		if peer != nil {
			b.figure(fmt.Sprintf("step_ca_cpu_ms_%d", n), median(theirs.cpu), "ms")
			b.figure(fmt.Sprintf("step_ca_certs_per_s_%d", n), median(theirs.rate), "1/s")
			b.figure(fmt.Sprintf("step_ca_p50_ms_%d", n), median(theirs.p50), "ms")
			b.figure(fmt.Sprintf("step_ca_p99_ms_%d", n), median(theirs.p99), "ms")
			b.figure(fmt.Sprintf("certs_per_s_%d_vs_step_ca", n), median(ours.rate)/median(theirs.rate), "ratio")
		}
	}
	return b.verifyLedger(ctx, callers[0].pins, handed)
}

// verifyLedger holds the ledger that the load left against all that can be checked: a fast CA that loses an entry has no figures.
func (b *bench) verifyLedger(ctx context.Context, pins json.RawMessage, handed int) error {
	path := filepath.Join(b.Dir, "pins.json")
	if err := os.WriteFile(path, pins, 0o600); err != nil {
		return err
	}
	b.End("ca", false)
	out, err := b.Run(ctx, "breakglass-ca", "ledger", "verify", "--dir", filepath.Join(b.Dir, "ca"), "--trust", path)
	if err != nil {
		return fmt.Errorf("the ledger after %d certificates: %w", handed, err)
	}
	fmt.Fprintf(os.Stderr, "ledger after %d certificates: %s", handed, out)
	return nil
}

// result is one load; ca-load of the peer prints the same as JSON.
type result struct {
	Certs     int     `json:"certs"`
	CertsPerS float64 `json:"certs_per_s"`
	P50ms     float64 `json:"p50_ms"`
	P99ms     float64 `json:"p99_ms"`
	CPUms     float64 `json:"-"` // of the service, a certificate: it depends less than all else on what the machine does besides
}

type series struct{ rate, p50, p99, cpu []float64 }

func (s *series) add(r result) {
	s.rate, s.p50, s.p99, s.cpu = append(s.rate, r.CertsPerS), append(s.p50, r.P50ms), append(s.p99, r.P99ms), append(s.cpu, r.CPUms)
}

// metered adds what the service itself spent on a load.
func metered(spent func() (time.Duration, error), run func() (result, error)) (r result, err error) {
	before, err := spent()
	if err != nil {
		return r, err
	}
	if r, err = run(); err != nil {
		return r, err
	}
	after, err := spent()
	r.CPUms = float64((after - before).Microseconds()) / 1000 / float64(max(1, r.Certs))
	return r, err
}

// cpuTime is what a process has spent, user and system (proc_pid_stat(5)), of all its threads.
func cpuTime(pid int) (time.Duration, error) {
	const tick = 10 * time.Millisecond // sysconf(_SC_CLK_TCK) is 100 on every Linux
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name before may hold anything
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// load lets each caller get one certificate after the other for a while. An error of any ends it: a refused client is no figure.
func load(ctx context.Context, callers []*caller, keys []ssh.PublicKey, span time.Duration) (result, error) {
	var next atomic.Int64
	key := func() ssh.PublicKey { return keys[next.Add(1)%int64(len(keys))] }
	for _, c := range callers { // shakes hands, outside of the clock
		if err := c.certificate(ctx, key()); err != nil {
			return result{}, fmt.Errorf("first certificate: %w", err)
		}
	}
	took := make([][]time.Duration, len(callers))
	errs := make([]error, len(callers))
	start := time.Now()
	end := start.Add(span)
	var wg sync.WaitGroup
	for i, c := range callers {
		wg.Go(func() {
			for time.Now().Before(end) && errs[i] == nil {
				begun := time.Now()
				errs[i] = c.certificate(ctx, key())
				took[i] = append(took[i], time.Since(begun))
			}
		})
	}
	wg.Wait()
	whole := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return result{}, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	at := func(q float64) float64 {
		return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000
	}
	return result{Certs: len(all), CertsPerS: float64(len(all)) / whole.Seconds(), P50ms: at(0.50), P99ms: at(0.99)}, nil
}

// caller is a client of the CA as anybody could write one from the API's documentation: JSON over one pinned keep-alive connection.
type caller struct {
	http       *http.Client
	url        string
	pins       json.RawMessage
	person     string
	login      string
	cas        []ssh.PublicKey // client CA
	key        *softkey.Authenticator
	credential *softkey.Enrollment
}

type challenge struct {
	ID        string `json:"id"`
	Statement string `json:"statement"`
	Namespace string `json:"namespace"`
}

type signed struct {
	SSHSIG string `json:"sshsig"`
}

// newCaller invites a person and enrols a software key.
func (b *bench) newCaller(ctx context.Context, person string) (*caller, error) {
	line, err := b.Run(ctx, "breakglass-ca", "invite", "--dir", filepath.Join(b.Dir, "ca"), person)
	if err != nil {
		return nil, err
	}
	body, _ := strings.CutPrefix(strings.TrimSpace(line), "bg1.")
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return nil, err
	}
	var token struct {
		Pins   json.RawMessage `json:"pins"`
		Secret string          `json:"secret"`
	}
	var pins struct {
		Site struct {
			ClientCA []string `json:"client_ca"`
			TLS      []string `json:"tls"`
		} `json:"site"`
	}
	if err := errors.Join(json.Unmarshal(text, &token), json.Unmarshal(token.Pins, &pins)); err != nil {
		return nil, err
	}
	c := &caller{url: "https://" + b.CAAddress, pins: token.Pins, person: person, login: b.Login}
	for _, s := range pins.Site.ClientCA {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s))
		if err != nil {
			return nil, err
		}
		c.cas = append(c.cas, k)
	}
	c.http = &http.Client{Timeout: callTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			h := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if !slices.Contains(pins.Site.TLS, hex.EncodeToString(h[:])) {
				return errors.New("the server's key is not the pinned one")
			}
			return nil
		}}}}
	if c.key, err = softkey.NewAuthenticator(softkey.Config{PIN: road.PIN}); err != nil {
		return nil, err
	}
	if err := c.key.VerifyPIN(road.PIN); err != nil {
		return nil, err
	}
	return c, c.enrol(ctx, token.Secret)
}

func (c *caller) enrol(ctx context.Context, secret string) error {
	var e struct {
		ID        string `json:"id"`
		Challenge []byte `json:"challenge"`
	}
	if err := c.post(ctx, "/v1/enrolments", map[string]string{"invite": secret, "key": "soft"}, &e); err != nil {
		return err
	}
	cred, err := c.key.Enroll(application, e.Challenge, true)
	if err != nil {
		return err
	}
	c.credential = cred
	var ch challenge
	if err := c.post(ctx, "/v1/enrolments/"+e.ID+"/key", map[string]any{"public_key": line(cred.PublicKey), "credential_id": cred.CredentialID,
		"format": cred.Format, "auth_data": cred.AuthData, "cert": cred.Cert, "signature": cred.Signature}, &ch); err != nil {
		return err
	}
	s, err := c.sign(ch)
	if err != nil {
		return err
	}
	return c.post(ctx, "/v1/enrolments/"+ch.ID+"/signature", s, &struct{}{})
}

// certificate is the whole exchange: the statement is read and held against what was asked before it is signed, the certificate is parsed,
// its shape, signature and clock are checked, and it is for the key asked for.
func (c *caller) certificate(ctx context.Context, subject ssh.PublicKey) error {
	var ch challenge
	if err := c.post(ctx, "/v1/requests", map[string]string{"person": c.person, "login": c.login, "host": road.Host, "reason": reason, "client_key": line(subject)}, &ch); err != nil {
		return err
	}
	var r statement.Request
	if err := statement.Parse([]byte(ch.Statement), &r); err != nil {
		return err
	}
	if string(r.Person) != c.person || string(r.Login) != c.login || string(r.Host) != road.Host || r.Reason != reason || r.ClientKey != ssh.FingerprintSHA256(subject) {
		return errors.New("the statement is not what was asked")
	}
	s, err := c.sign(ch)
	if err != nil {
		return err
	}
	var granted struct {
		Certificate string `json:"certificate"`
	}
	if err := c.post(ctx, "/v1/requests/"+ch.ID+"/signature", s, &granted); err != nil {
		return err
	}
	cert, err := sshcert.Parse([]byte(granted.Certificate))
	if err != nil {
		return err
	}
	if !bytes.Equal(cert.Key.Marshal(), subject.Marshal()) {
		return errors.New("the certificate is for another key")
	}
	return sshcert.Verify(cert, sshcert.Client, c.cas, time.Now())
}

func (c *caller) sign(ch challenge) (signed, error) {
	sig, err := c.key.SignSK(application, sshsig.SignedData(ch.Namespace, []byte(ch.Statement)), c.credential.CredentialID, true)
	if err != nil {
		return signed{}, err
	}
	s := &sshsig.Signature{PublicKey: c.credential.PublicKey, Namespace: ch.Namespace, Inner: *sig}
	return signed{string(s.Armor())}, nil
}

func (c *caller) post(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s: %.300s", path, resp.Status, b)
	}
	return json.Unmarshal(b, out)
}

func line(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }
