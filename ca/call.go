package ca

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/internal/name"
	"breakglass/internal/sshsig"
	"breakglass/internal/statement"
)

// caller is who signed a call: a key, and what it stands for.
type caller struct {
	key     ssh.PublicKey
	jump    name.Jump   // a joined jump's key
	revoked name.Jump   // a jump's key that was revoked: it hears of that, and nothing else
	person  name.Person // a pass's holder, while it lasts
	pass    string
	st      *statement.Call
	// text and armored are the call as it was signed: what it stops is an entry that holds it.
	text, armored string
	// founder is the holder of a pass from before the founding: an owner, who reads what there is to be founded and nothing else.
	founder name.Person
}

func (c *caller) fingerprint() string { return ssh.FingerprintSHA256(c.key) }

// mayReadRequest is the one rule of who reads a request: its own client key, or a pass.
func (c *caller) mayReadRequest(r state.Request) bool {
	return c != nil && (c.person != "" || c.fingerprint() == r.ClientKey)
}

// caller judges the headers of a signed call, before its body is read. nil without an error: the call is not signed. The body is
// judged by sealed, which must come before anything that the call asks for.
func (c *CA) caller(r *http.Request, from netip.Addr) (*caller, error) {
	h, s := r.Header.Get(api.HeaderCall), r.Header.Get(api.HeaderSignature)
	if h == "" && s == "" {
		return nil, nil
	}
	bad := func(reason string) error {
		c.strangers.add(reason, from)
		return passNeeded()
	}
	text, err1 := base64.StdEncoding.DecodeString(h)
	armored, err2 := base64.StdEncoding.DecodeString(s)
	var st statement.Call
	if errors.Join(err1, err2) != nil || statement.Parse(text, &st) != nil {
		return nil, bad("malformed_call")
	}
	sig, err := sshsig.Parse(armored)
	// Only in-memory keys sign calls, and those are ed25519: anybody else's RSA key would only cost time.
	if err != nil || sig.PublicKey.Type() != ssh.KeyAlgoED25519 || sig.Verify(sig.PublicKey, statement.KindCall.Namespace(), text) != nil {
		return nil, bad("bad_call_signature")
	}
	now := c.now()
	if st.Method != r.Method || st.Path != r.URL.RequestURI() || st.Origin != c.keys.ledger.Name() {
		return nil, bad("call_of_another_request")
	}
	if d := now.Sub(st.Issued); d > api.CallSkew || d < -api.CallSkew {
		c.strangers.add("call_clock", from)
		if err := c.jumpSays(r.Context(), sig.PublicKey, st.Issued, now); err != nil {
			return nil, err
		}
		return nil, &api.Problem{Status: 401, Code: api.CodeClock, Detail: bothClocks("this machine's", st.Issued, now), Next: []string{"set the clock to " + now.Format(time.RFC3339)}}
	}
	who := &caller{key: sig.PublicKey, st: &st, text: string(text), armored: string(sig.Armor())}
	if err := c.state.View(r.Context(), func(tx *state.Tx) error {
		jumps, err := tx.Jumps()
		if err != nil {
			return err
		}
		for _, j := range jumps {
			if k, err := parseKey(j.Jump.Key); err == nil && string(k.Marshal()) == string(who.key.Marshal()) {
				if v, err := tx.JumpKeyRevoked(j.Jump.Key); err != nil || v {
					who.revoked = j.Jump.Name
					return err
				}
				who.jump = j.Jump.Name
				c.clocks.heard(who.jump, st.Issued, now)
			}
		}
		p, err := tx.PassOf(authorized(who.key))
		if errors.Is(err, state.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if v, err := tx.PassRevoked(p.ID); err != nil || v {
			return err
		}
		// A pass reads for the person as the policy knows them now.
		if _, known := c.policy.Load().Person(p.Person); known && now.Before(p.Until) {
			if who.person, who.founder, err = c.reader(tx, p, now); err != nil {
				return err
			}
			if who.person != "" {
				who.pass = p.ID
			}
			// And from where the policy lets anybody ask at all: a pass's key that was carried off reads nothing there.
			if who.person+who.founder != "" && c.place(from) != nil {
				who.person, who.founder, who.pass = "", "", ""
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return who, nil
}

// sealed demands that the body is the one that the caller signed, and that the call is new.
func (c *CA) sealed(who *caller, body []byte, from netip.Addr) error {
	if who == nil {
		return nil
	}
	if who.st.Body != sha256.Sum256(body) {
		c.strangers.add("call_of_another_request", from)
		return passNeeded()
	}
	// Last, so that a stranger can't fill the memory of nonces with keys that stand for nothing: then no call of anybody would be new. Any
	// other key may at most read its own request, and reading that twice is no harm.
	if (who.jump != "" || who.person != "" || who.founder != "") && !c.calls.first(who.st.Nonce, who.st.Issued.Add(2*api.CallSkew)) {
		c.strangers.add("call_repeated", from)
		return passNeeded()
	}
	return nil
}

// jumpSays notes the time of a jump whose call is refused for it: were those not heard, a CA whose clock is far off would hear none.
func (c *CA) jumpSays(ctx context.Context, key ssh.PublicKey, theirs, ours time.Time) error {
	return c.state.View(ctx, func(tx *state.Tx) error {
		jumps, err := tx.Jumps()
		for _, j := range jumps {
			if k, err := parseKey(j.Jump.Key); err == nil && string(k.Marshal()) == string(key.Marshal()) {
				c.clocks.heard(j.Jump.Name, theirs, ours)
			}
		}
		return err
	})
}
