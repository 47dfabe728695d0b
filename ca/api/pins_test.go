package api_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// key is a public key that is the same in every run.
func key(n byte) string {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	pub, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

func testPins(tb testing.TB) api.Pins {
	tb.Helper()
	const origin = "breakglass.test/ledger"
	skey, vkey, err := ledger.GenerateKey(origin)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ledger.NewSigner(skey)
	if err != nil {
		tb.Fatal(err)
	}
	head, err := ledger.Checkpoint{Origin: origin, Size: 1, Root: statement.Hash{1}}.Sign(signer)
	if err != nil {
		tb.Fatal(err)
	}
	return api.Pins{
		Site: ledger.Site{
			Name: "test", Profile: "demo", Origin: origin, Epoch: 1, LedgerKey: vkey,
			ClientCA: []string{key(1), key(2)}, SessionCA: []string{key(3), key(4)}, HostCA: []string{key(5), key(6)},
			TLS: []string{strings.Repeat("0a", 32), strings.Repeat("0b", 32)}, Addresses: []string{"192.0.2.1:8443", "[2001:db8::1]:8443"},
			Jumps: []ledger.SiteJump{{Name: "jump-a", Addresses: []string{"192.0.2.2:22"}, Source: []string{"10.0.0.2"}, Key: key(7), HostKey: key(8)}},
		},
		Checkpoint: head,
	}
}

func testToken(tb testing.TB) api.Token {
	return api.Token{
		Pins: testPins(tb), For: api.ForPerson, Name: "alice", Secret: base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
		Expires: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
	}
}

func TestPinsComeBackAsTheyWent(t *testing.T) {
	p := testPins(t)
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := api.ParsePins(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, got); d != "" {
		t.Error(d)
	}
}

func TestPinsThatPinNothingAreRefused(t *testing.T) {
	for _, c := range []struct {
		what   string
		mangle func(*api.Pins)
	}{
		{"no origin", func(p *api.Pins) { p.Site.Origin = "" }},
		{"a foreign origin", func(p *api.Pins) { p.Site.Origin = "another.test/ledger" }},
		{"epoch 0", func(p *api.Pins) { p.Site.Epoch = 0 }},
		{"an unknown profile", func(p *api.Pins) { p.Site.Profile = "test" }},
		{"no ledger key", func(p *api.Pins) { p.Site.LedgerKey = "" }},
		{"another ledger's key", func(p *api.Pins) { _, p.Site.LedgerKey, _ = ledger.GenerateKey(p.Site.Origin) }},
		{"no checkpoint", func(p *api.Pins) { p.Checkpoint = "" }},
		{"a changed checkpoint", func(p *api.Pins) { p.Checkpoint = strings.Replace(p.Checkpoint, "\n1\n", "\n2\n", 1) }},
		{"no client CA", func(p *api.Pins) { p.Site.ClientCA = nil }},
		{"no session CA", func(p *api.Pins) { p.Site.SessionCA = nil }},
		{"no host CA", func(p *api.Pins) { p.Site.HostCA = nil }},
		{"two keys in a line", func(p *api.Pins) { p.Site.HostCA = []string{key(1) + "\n" + key(2)} }},
		{"no TLS key", func(p *api.Pins) { p.Site.TLS = nil }},
		{"a short TLS key", func(p *api.Pins) { p.Site.TLS = []string{"0a0b"} }},
		{"no address", func(p *api.Pins) { p.Site.Addresses = nil }},
		{"an address by name", func(p *api.Pins) { p.Site.Addresses = []string{"ca.example:8443"} }},
		{"a jump without key", func(p *api.Pins) { p.Site.Jumps[0].Key = "" }},
		{"a jump's name that climbs", func(p *api.Pins) { p.Site.Jumps[0].Name = "../jump" }},
		{"a jump's address by name", func(p *api.Pins) { p.Site.Jumps[0].Addresses = []string{"jump.example:22"} }},
	} {
		p := testPins(t)
		c.mangle(&p)
		if err := p.Validate(); !errors.Is(err, api.ErrPins) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestParsePinsIsStrict(t *testing.T) {
	b, err := testPins(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"nothing":          "",
		"an unknown field": strings.Replace(string(b), `"checkpoint"`, `"more": 1, "checkpoint"`, 1),
		"a second value":   string(b) + "{}",
		"a closing brace":  string(b) + "}",
		"half of it":       string(b[:len(b)/2]),
		"too much":         string(b) + strings.Repeat(" ", api.MaxPins),
	} {
		if _, err := api.ParsePins([]byte(text)); !errors.Is(err, api.ErrPins) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTokenComesBackAsItWent(t *testing.T) {
	want := testToken(t)
	line := want.String()
	if strings.ContainsAny(line, " \n\t'\"\\$") {
		t.Errorf("a token must be one word on a command line: %q", line)
	}
	wrapped := "  " + line[:80] + "\n" + line[80:160] + " \r\n\t" + line[160:] + "\n"
	for what, s := range map[string]string{"as it is": line, "wrapped by a mail program": wrapped} {
		got, err := api.ParseToken(s)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
}

func TestTokenRefused(t *testing.T) {
	encode := func(text string) string { return "bg1." + base64.RawURLEncoding.EncodeToString([]byte(text)) }
	with := func(f func(*api.Token)) string {
		tok := testToken(t)
		f(&tok)
		return tok.String()
	}
	good := testToken(t)
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, token, says string }{
		{"nothing", "", `should begin with "bg1."`},
		{"another version", "bg2." + good.String()[4:], `should begin with "bg1."`},
		{"a paste that lost its end", good.String()[:200], "is the end of it missing?"},
		{"a letter that base64 lacks", good.String() + "!", "is the end of it missing?"},
		{"an unknown field", encode(strings.Replace(string(text), `"for"`, `"and":1,"for"`, 1)), `unknown field "and"`},
		{"something after it", encode(string(text) + "1"), "something follows"},
		{"for a host", with(func(t *api.Token) { t.For = "host" }), `for "host"`},
		{"no name", with(func(t *api.Token) { t.Name = "" }), "person"},
		{"a name with a line", with(func(t *api.Token) { t.Name = "alice\nbob" }), "person"},
		{"a short secret", with(func(t *api.Token) { t.Secret = "YWJj" }), "secret"},
		{"no pins", with(func(t *api.Token) { t.Pins = api.Pins{} }), "malformed pins"},
		{"too long", "bg1." + strings.Repeat("A", api.MaxToken), "limit"},
	} {
		_, err := api.ParseToken(c.token)
		if !errors.Is(err, api.ErrToken) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want it to say %q", c.what, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), good.Secret) {
			t.Errorf("%s: the error holds the secret: %v", c.what, err)
		}
	}
}

func TestRedactedHoldsNoSecret(t *testing.T) {
	tok := testToken(t)
	if s := tok.Redacted(); strings.Contains(s, tok.Secret) || !strings.Contains(s, "person alice") {
		t.Error(s)
	}
}

func FuzzParsePins(f *testing.F) {
	b, err := testPins(f).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := api.ParsePins(data)
		if err != nil {
			if !errors.Is(err, api.ErrPins) {
				t.Fatalf("untyped: %v", err)
			}
			return
		}
		again, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if q, err := api.ParsePins(again); err != nil || !cmp.Equal(p, q) {
			t.Fatalf("%v\n%s", err, cmp.Diff(p, q))
		}
	})
}

// FuzzParseToken fuzzes the JSON inside, which random base64 would hardly reach, and the line as well.
func FuzzParseToken(f *testing.F) {
	tok := testToken(f)
	text, err := json.Marshal(tok)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, true)
	f.Add([]byte(tok.String()), false)
	f.Fuzz(func(t *testing.T, data []byte, inside bool) {
		line := string(data)
		if inside {
			line = "bg1." + base64.RawURLEncoding.EncodeToString(data)
		}
		got, err := api.ParseToken(line)
		if err != nil {
			if !errors.Is(err, api.ErrToken) {
				t.Fatalf("untyped: %v", err)
			}
			return
		}
		if again, err := api.ParseToken(got.String()); err != nil || again.Redacted() != got.Redacted() {
			t.Fatalf("%v: %s", err, got.Redacted())
		}
	})
}

func TestTokenArg(t *testing.T) {
	for _, c := range []struct{ arg, stdin, want string }{
		{"bg1.abc", "bg1.other", "bg1.abc"},
		{"-", "bg1.abc\n", "bg1.abc\n"},
		{"-", "", ""},
	} {
		if got, err := api.TokenArg(c.arg, strings.NewReader(c.stdin)); err != nil || got != c.want {
			t.Errorf("%q with stdin %q: %q, %v", c.arg, c.stdin, got, err)
		}
	}
	long, err := api.TokenArg("-", strings.NewReader(strings.Repeat("x", 10*api.MaxToken)))
	if err != nil || len(long) != 2*api.MaxToken {
		t.Errorf("%d bytes held, %v", len(long), err)
	}
}
