package softkey

// This file is authenticatorMakeCredential and authenticatorGetAssertion (CTAP 2.1 sections 6.1, 6.2).

type credDescriptor struct {
	ID   []byte `cbor:"id"`
	Type string `cbor:"type"`
}

type makeCredentialRequest struct {
	ClientDataHash []byte `cbor:"1,keyasint"`
	RP             struct {
		ID   string `cbor:"id"`
		Name string `cbor:"name,omitempty"`
	} `cbor:"2,keyasint"`
	User struct {
		ID          []byte `cbor:"id"`
		Name        string `cbor:"name,omitempty"`
		DisplayName string `cbor:"displayName,omitempty"`
	} `cbor:"3,keyasint"`
	Params     []infoAlgorithm  `cbor:"4,keyasint"`
	Exclude    []credDescriptor `cbor:"5,keyasint,omitempty"`
	Extensions struct {
		CredProtect int  `cbor:"credProtect,omitempty"`
		HMACSecret  bool `cbor:"hmac-secret,omitempty"`
	} `cbor:"6,keyasint,omitempty"`
	Options   map[string]bool `cbor:"7,keyasint,omitempty"`
	AuthParam []byte          `cbor:"8,keyasint,omitempty"` // nil is absent; empty asks for selection
	Protocol  uint            `cbor:"9,keyasint,omitempty"`
}

type attestationStatement struct {
	Alg int      `cbor:"alg"`
	Sig []byte   `cbor:"sig"`
	X5C [][]byte `cbor:"x5c,omitempty"`
}

type makeCredentialResponse struct {
	Format   string `cbor:"1,keyasint"`
	AuthData []byte `cbor:"2,keyasint"`
	AttStmt  any    `cbor:"3,keyasint"`
}

func (c *command) makeCredential(body []byte) (any, error) {
	var q makeCredentialRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	if len(q.ClientDataHash) != 32 || q.RP.ID == "" || len(q.User.ID) == 0 || len(q.Params) == 0 {
		return nil, ctapMissingParameter
	}
	if err := c.selection(q.AuthParam); err != nil {
		return nil, err
	}
	es256 := false
	for _, p := range q.Params {
		es256 = es256 || p.Alg == coseES256 && p.Type == "public-key"
	}
	if !es256 {
		return nil, ctapUnsupportedAlgorithm
	}
	if q.Options["rk"] {
		return nil, ctapUnsupportedOption
	}
	if up, ok := q.Options["up"]; ok && !up {
		return nil, ctapInvalidOption
	}
	if q.Extensions.CredProtect < 0 || q.Extensions.CredProtect > 3 {
		return nil, ctapInvalidOption
	}
	uv, touched, err := c.verifyUser("enroll", q.AuthParam, q.Protocol, q.ClientDataHash, permissionMC, q.RP.ID, q.Options["uv"])
	if err != nil {
		return nil, err
	}
	var pinSet, excluded bool
	err = c.auth.store.update(func(st *state) error {
		pinSet = st.PINHash != nil
		for _, d := range q.Exclude {
			if cr := st.find(d.ID, q.RP.ID); cr != nil && (cr.CredProtect != 3 || uv) {
				excluded = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// A protected key makes no credential for whoever only found it (no makeCredUvNotRqd).
	if (pinSet || c.auth.cfg.BuiltInUV) && !uv {
		return nil, ctapPUATRequired
	}
	if !touched {
		if err := c.touch("enroll"); err != nil {
			return nil, err
		}
	}
	if excluded {
		return nil, ctapCredentialExcluded
	}
	var e *Enrollment
	err = c.auth.store.update(func(st *state) (err error) {
		e, err = c.auth.create(st, newCredential{
			rpID: q.RP.ID, userID: q.User.ID, userName: q.User.Name,
			cdh: q.ClientDataHash, uv: uv, credProtect: q.Extensions.CredProtect, hmacSecret: q.Extensions.HMACSecret && !c.auth.cfg.NoHMACSecret,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	r := makeCredentialResponse{Format: e.Format, AuthData: e.AuthData, AttStmt: map[string]any{}}
	if e.Signature != nil {
		s := attestationStatement{Alg: coseES256, Sig: e.Signature}
		if e.Cert != nil {
			s.X5C = [][]byte{e.Cert}
		}
		r.AttStmt = s
	}
	return r, nil
}

type getAssertionRequest struct {
	RPID           string           `cbor:"1,keyasint"`
	ClientDataHash []byte           `cbor:"2,keyasint"`
	Allow          []credDescriptor `cbor:"3,keyasint,omitempty"`
	Extensions     struct {
		HMACSecret *hmacSecretInput `cbor:"hmac-secret,omitempty"`
	} `cbor:"4,keyasint,omitempty"`
	Options   map[string]bool `cbor:"5,keyasint,omitempty"`
	AuthParam []byte          `cbor:"6,keyasint,omitempty"`
	Protocol  uint            `cbor:"7,keyasint,omitempty"`
}

type getAssertionResponse struct {
	Credential credDescriptor `cbor:"1,keyasint"`
	AuthData   []byte         `cbor:"2,keyasint"`
	Signature  []byte         `cbor:"3,keyasint"`
}

func (c *command) getAssertion(body []byte) (any, error) {
	var q getAssertionRequest
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	if q.RPID == "" || len(q.ClientDataHash) != 32 {
		return nil, ctapMissingParameter
	}
	if err := c.selection(q.AuthParam); err != nil {
		return nil, err
	}
	if _, ok := q.Options["rk"]; ok {
		return nil, ctapUnsupportedOption
	}
	up := true
	if v, ok := q.Options["up"]; ok {
		up = v
	}
	secret := q.Extensions.HMACSecret
	if c.auth.cfg.NoHMACSecret {
		secret = nil // an extension that a key doesn't know is ignored (section 6.2.2)
	}
	if secret != nil && !up { // a secret is given to somebody who is there (section 12.5)
		return nil, ctapUnsupportedOption
	}
	uv, touched, err := c.verifyUser("sign", q.AuthParam, q.Protocol, q.ClientDataHash, permissionGA, q.RPID, q.Options["uv"])
	if err != nil {
		return nil, err
	}
	// No allow list means resident credentials, which this key hasn't.
	var found []byte
	err = c.auth.store.update(func(st *state) error {
		for _, d := range q.Allow {
			if cr := st.find(d.ID, q.RPID); cr != nil && (cr.CredProtect != 3 || uv) {
				found = cr.ID
				return nil
			}
		}
		return ctapNoCredentials
	})
	if err != nil {
		return nil, err
	}
	if up && !touched {
		if err := c.touch("sign"); err != nil {
			return nil, err
		}
	}
	var r getAssertionResponse
	err = c.auth.store.update(func(st *state) (err error) {
		cr := st.find(found, q.RPID)
		if cr == nil { // another process removed it while the key was blinking
			return ctapNoCredentials
		}
		r.Credential = credDescriptor{ID: cr.ID, Type: "public-key"}
		var outputs map[string]any
		if secret != nil && cr.RandomUV != nil {
			if outputs, err = c.auth.hmacSecret(cr, secret, uv); err != nil {
				return err
			}
		}
		r.AuthData, r.Signature, err = c.auth.sign(st, cr, q.ClientDataHash, up, uv, outputs)
		return err
	})
	return r, err
}

// selection answers an empty pinUvAuthParam: CTAP 2.0's way to ask "touch the one you mean".
func (c *command) selection(authParam []byte) error {
	if authParam == nil || len(authParam) > 0 {
		return nil
	}
	if err := c.touch("select"); err != nil {
		return err
	}
	var pinSet bool
	if err := c.auth.store.update(func(st *state) error { pinSet = st.PINHash != nil; return nil }); err != nil {
		return err
	}
	if pinSet {
		return ctapPINInvalid
	}
	return ctapPINNotSet
}

// verifyUser says whether the user was verified, by token or by the key itself; the latter is a touch
// too.
func (c *command) verifyUser(op string, param []byte, proto uint, cdh []byte, perm byte, rpID string, optUV bool) (uv, touched bool, err error) {
	a := c.auth
	switch {
	case param != nil:
		if proto != 1 && proto != 2 {
			return false, false, ctapInvalidParameter
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.pin.authorised(proto, param, cdh, perm, rpID) {
			return false, false, ctapPINAuthInvalid
		}
		return true, false, nil
	case optUV:
		if !a.cfg.BuiltInUV {
			return false, false, ctapInvalidOption
		}
		if err := c.builtInUV(op); err != nil {
			return false, false, err
		}
		return true, true, nil
	}
	return false, false, nil
}
