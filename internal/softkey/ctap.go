package softkey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// ctapError is a CTAP status code (CTAP 2.1 section 8.2).
type ctapError byte

const (
	ctapInvalidCommand         ctapError = 0x01
	ctapInvalidParameter       ctapError = 0x02
	ctapInvalidCBOR            ctapError = 0x12
	ctapMissingParameter       ctapError = 0x14
	ctapCredentialExcluded     ctapError = 0x19
	ctapUnsupportedAlgorithm   ctapError = 0x26
	ctapUnsupportedOption      ctapError = 0x2b
	ctapInvalidOption          ctapError = 0x2c
	ctapKeepaliveCancel        ctapError = 0x2d
	ctapNoCredentials          ctapError = 0x2e
	ctapUserActionTimeout      ctapError = 0x2f
	ctapNotAllowed             ctapError = 0x30
	ctapPINInvalid             ctapError = 0x31
	ctapPINBlocked             ctapError = 0x32
	ctapPINAuthInvalid         ctapError = 0x33
	ctapPINAuthBlocked         ctapError = 0x34
	ctapPINNotSet              ctapError = 0x35
	ctapPUATRequired           ctapError = 0x36
	ctapPINPolicy              ctapError = 0x37
	ctapUVBlocked              ctapError = 0x3c
	ctapInvalidSubcommand      ctapError = 0x3e
	ctapUVInvalid              ctapError = 0x3f
	ctapUnauthorizedPermission ctapError = 0x40
	ctapOther                  ctapError = 0x7f
)

func (e ctapError) Error() string { return fmt.Sprintf("CTAP error 0x%02x", byte(e)) }

// CTAP commands (section 6).
const (
	cmdMakeCredential = 0x01
	cmdGetAssertion   = 0x02
	cmdGetInfo        = 0x04
	cmdClientPIN      = 0x06
	cmdSelection      = 0x0b
)

// Keepalive statuses (section 11.2.9.2.5).
const (
	statusProcessing = 1
	statusUPNeeded   = 2
)

// COSE numbers (RFC 9053).
const (
	coseEC2   = 2
	coseP256  = 1
	coseES256 = -7
	coseECDH  = -25
)

type coseKey struct {
	Kty int    `cbor:"1,keyasint"`
	Alg int    `cbor:"3,keyasint"`
	Crv int    `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
	Y   []byte `cbor:"-3,keyasint"`
}

// encode is CTAP2 canonical CBOR (section 8): libfido2 takes other orders, real platforms may not.
func encode(v any) ([]byte, error) {
	m, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return m.Marshal(v)
}

func decode(b []byte, v any) error {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, MaxNestedLevels: 4}.DecMode()
	if err != nil {
		return err
	}
	if err := m.Unmarshal(b, v); err != nil {
		return ctapInvalidCBOR
	}
	return nil
}

// command is one CTAP command under way.
type command struct {
	ctx    context.Context // ends with CTAPHID_CANCEL or the plug
	auth   *Authenticator
	status func(byte) // told each change of the keepalive status
}

// handle runs one CTAPHID_CBOR message and returns its response: status byte, then CBOR.
func (a *Authenticator) handle(ctx context.Context, msg []byte, status func(byte)) []byte {
	if len(msg) == 0 {
		return []byte{byte(ctapInvalidParameter)}
	}
	c := &command{ctx: ctx, auth: a, status: status}
	var out any
	var err error
	body := msg[1:]
	switch msg[0] {
	case cmdGetInfo:
		out, err = c.getInfo()
	case cmdMakeCredential:
		out, err = c.makeCredential(body)
	case cmdGetAssertion:
		out, err = c.getAssertion(body)
	case cmdClientPIN:
		out, err = c.clientPIN(body)
	case cmdSelection:
		err = c.touch("select")
	default:
		err = ctapInvalidCommand
	}
	var b []byte
	if err == nil && out != nil {
		b, err = encode(out)
	}
	a.log.Debug("ctap command", "command", msg[0], "error", err)
	if err != nil {
		var ce ctapError
		if !errors.As(err, &ce) {
			a.log.Error("software key failed", "error", err)
			ce = ctapOther
		}
		return []byte{byte(ce)}
	}
	return append([]byte{0}, b...)
}

// touch blinks until the user touches, walks away, or somebody cancels.
func (c *command) touch(op string) error {
	c.status(statusUPNeeded)
	defer c.status(statusProcessing)
	f := c.auth.currentFaults()
	wait, result := f.TouchDelay, error(nil)
	if f.DenyTouch {
		wait, result = denyAfter, ctapUserActionTimeout
	}
	deadline := time.NewTimer(c.auth.cfg.TouchTimeout)
	defer deadline.Stop()
	done := make(chan error, 1)
	if wait > 0 || c.auth.cfg.Touch == nil || f.DenyTouch {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-deadline.C:
			return ctapUserActionTimeout
		case <-c.ctx.Done():
			return ctapKeepaliveCancel
		}
		if c.auth.cfg.Touch == nil || f.DenyTouch {
			return result
		}
	}
	go func() {
		if c.auth.cfg.Touch(op) {
			done <- nil
		} else {
			done <- ctapUserActionTimeout
		}
	}()
	select {
	case err := <-done:
		return err
	case <-deadline.C:
		return ctapUserActionTimeout
	case <-c.ctx.Done():
		return ctapKeepaliveCancel
	}
}

type infoAlgorithm struct {
	Alg  int    `cbor:"alg"`
	Type string `cbor:"type"`
}

type info struct {
	Versions     []string        `cbor:"1,keyasint"`
	Extensions   []string        `cbor:"2,keyasint"`
	AAGUID       []byte          `cbor:"3,keyasint"`
	Options      map[string]bool `cbor:"4,keyasint"`
	MaxMsgSize   int             `cbor:"5,keyasint"`
	PINProtocols []int           `cbor:"6,keyasint"`
	MaxCreds     int             `cbor:"7,keyasint"`
	MaxCredIDLen int             `cbor:"8,keyasint"`
	Transports   []string        `cbor:"9,keyasint"`
	Algorithms   []infoAlgorithm `cbor:"10,keyasint"`
	MinPINLength int             `cbor:"13,keyasint"`
	Firmware     int             `cbor:"14,keyasint"`
}

// getInfo is authenticatorGetInfo (section 6.4).
func (c *command) getInfo() (any, error) {
	i := info{
		Versions: []string{"FIDO_2_0", "FIDO_2_1"}, Extensions: []string{"credProtect"},
		MaxMsgSize: maxMsgSize, PINProtocols: c.auth.pinProtocols(), MaxCreds: 8, MaxCredIDLen: 128,
		Transports: []string{"usb"}, Algorithms: []infoAlgorithm{{coseES256, "public-key"}},
		MinPINLength: minPIN, Firmware: 1,
	}
	if !c.auth.cfg.NoHMACSecret {
		i.Extensions = append(i.Extensions, extHMACSecret)
	}
	err := c.auth.store.update(func(st *state) error {
		i.AAGUID = st.AAGUID
		i.Options = map[string]bool{"rk": false, "up": true, "plat": false, "clientPin": st.PINHash != nil, "pinUvAuthToken": true}
		if c.auth.cfg.BuiltInUV {
			i.Options["uv"] = true
		}
		return nil
	})
	return i, err
}
