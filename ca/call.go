package ca

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"slices"
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
	key    ssh.PublicKey
	jump   name.Jump   // a joined jump's key
	person name.Person // a pass's holder, while it lasts
	pass   string
	st     *statement.Call
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
		return nil, &api.Problem{Status: 401, Code: "clock", Detail: "this machine's clock is " + d.Round(time.Second).String() + " behind the CA's", Next: []string{"set the clock to " + now.Format(time.RFC3339)}}
	}
	who := &caller{key: sig.PublicKey, st: &st}
	if err := c.state.View(r.Context(), func(tx *state.Tx) error {
		jumps, err := tx.Jumps()
		if err != nil {
			return err
		}
		for _, j := range jumps {
			if k, err := parseKey(j.Jump.Key); err == nil && string(k.Marshal()) == string(who.key.Marshal()) {
				if v, err := tx.JumpKeyRevoked(j.Jump.Key); err != nil || v {
					return err
				}
				who.jump = j.Jump.Name
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
			keys, err := tx.Keys(p.Person)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(keys, func(k state.Key) bool { return !k.Suspended && !k.Revoked }) {
				who.person, who.pass = p.Person, p.ID
			}
			// And from where the policy lets anybody ask at all: a pass's key that was carried off reads nothing there.
			if who.person != "" && c.place(from) != nil {
				who.person, who.pass = "", ""
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
	if (who.jump != "" || who.person != "") && !c.calls.first(who.st.Nonce, who.st.Issued.Add(2*api.CallSkew)) {
		c.strangers.add("call_repeated", from)
		return passNeeded()
	}
	return nil
}
