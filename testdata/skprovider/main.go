// Command skprovider is an OpenSSH security key provider (sk-api.h, API version 0x000a0000) over a
// software key's state file, so that stock ssh-keygen, ssh and ssh-add sign with it in tests:
//
//	go build -buildmode=c-shared -o skprovider.so ./testdata/skprovider
//	BREAKGLASS_SOFTKEY=key.json ssh-keygen -Y sign -f id_ecdsa_sk …   with SSH_SK_PROVIDER=/abs/skprovider.so
//
// Stock ssh ignores SSH_SK_PROVIDER on Debian: -o SecurityKeyProvider=/abs/skprovider.so. ssh-agent
// wants -P for a provider outside /usr/lib. Key handles are the credential ids of package softkey, so a
// key that was enrolled over the pseudo-terminal signs through here too, with one counter for both.
//
// Environment: BREAKGLASS_SOFTKEY is the state file. BREAKGLASS_SOFTKEY_PIN is the PIN where OpenSSH
// hands none over; with a PIN set on the key, verification needs the right one.
// BREAKGLASS_SOFTKEY_DENY, not empty: the user doesn't touch.
package main

/*
#include <stdint.h>
#include <stdlib.h>

// sk-api.h without its prototypes, whose const clashes with cgo's exports.
#define SSH_SK_USER_PRESENCE_REQD	0x01
#define SSH_SK_USER_VERIFICATION_REQD	0x04
#define SSH_SK_RESIDENT_KEY		0x20
#define SSH_SK_ECDSA			0x00
#define SSH_SK_ERR_GENERAL		-1
#define SSH_SK_ERR_UNSUPPORTED		-2
#define SSH_SK_ERR_PIN_REQUIRED		-3
#define SSH_SK_ERR_DEVICE_NOT_FOUND	-4
#define SSH_SK_VERSION_MAJOR		0x000a0000

struct sk_enroll_response {
	uint8_t flags;
	uint8_t *public_key;
	size_t public_key_len;
	uint8_t *key_handle;
	size_t key_handle_len;
	uint8_t *signature;
	size_t signature_len;
	uint8_t *attestation_cert;
	size_t attestation_cert_len;
	uint8_t *authdata;
	size_t authdata_len;
};

struct sk_sign_response {
	uint8_t flags;
	uint32_t counter;
	uint8_t *sig_r;
	size_t sig_r_len;
	uint8_t *sig_s;
	size_t sig_s_len;
};

struct sk_resident_key;
struct sk_option;
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"os"
	"unsafe"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/ssh"

	"breakglass/internal/softkey"
)

func main() {}

//export sk_api_version
func sk_api_version() C.uint32_t { return C.SSH_SK_VERSION_MAJOR }

// key powers the key up; a wrong or missing PIN is told apart, so that ssh-keygen asks for one.
func key(flags C.uint8_t, cpin *C.char) (a *softkey.Authenticator, uv bool, err error) {
	path := os.Getenv("BREAKGLASS_SOFTKEY")
	if path == "" {
		return nil, false, errNoDevice
	}
	deny := os.Getenv("BREAKGLASS_SOFTKEY_DENY") != ""
	a, err = softkey.NewAuthenticator(softkey.Config{StatePath: path, Faults: softkey.Faults{DenyTouch: deny}})
	if err != nil {
		return nil, false, err
	}
	pin := os.Getenv("BREAKGLASS_SOFTKEY_PIN")
	if cpin != nil && *cpin != 0 {
		pin = C.GoString(cpin)
	}
	if pin != "" {
		if err := a.VerifyPIN(pin); err != nil {
			return nil, false, fmt.Errorf("%w: %w", errPIN, err)
		}
		return a, true, nil
	}
	if flags&C.SSH_SK_USER_VERIFICATION_REQD != 0 {
		return nil, false, errPIN
	}
	return a, false, nil
}

var (
	errNoDevice = errors.New("BREAKGLASS_SOFTKEY names no key")
	errPIN      = errors.New("PIN required")
)

// fail says why on stderr, which ssh-keygen shows, and gives the code for it.
func fail(err error) C.int {
	fmt.Fprintln(os.Stderr, "skprovider:", err)
	switch {
	case errors.Is(err, errNoDevice), errors.Is(err, softkey.ErrNoCredential):
		return C.SSH_SK_ERR_DEVICE_NOT_FOUND
	case errors.Is(err, errPIN):
		return C.SSH_SK_ERR_PIN_REQUIRED
	}
	return C.SSH_SK_ERR_GENERAL
}

// give copies b to the C heap; OpenSSH frees it.
func give(b []byte, p **C.uint8_t, n *C.size_t) {
	if len(b) > 0 {
		*p, *n = (*C.uint8_t)(C.CBytes(b)), C.size_t(len(b))
	}
}

//export sk_enroll
func sk_enroll(alg C.uint32_t, challenge *C.uint8_t, challengeLen C.size_t, application *C.char, flags C.uint8_t, pin *C.char,
	options **C.struct_sk_option, out **C.struct_sk_enroll_response) C.int {
	if alg != C.SSH_SK_ECDSA || flags&C.SSH_SK_RESIDENT_KEY != 0 {
		return C.SSH_SK_ERR_UNSUPPORTED
	}
	a, uv, err := key(flags, pin)
	if err != nil {
		return fail(err)
	}
	e, err := a.Enroll(C.GoString(application), C.GoBytes(unsafe.Pointer(challenge), C.int(challengeLen)), uv)
	if err != nil {
		return fail(err)
	}
	var pub struct {
		Type, Curve string
		Point       []byte
		Application string
	}
	if err := ssh.Unmarshal(e.PublicKey.Marshal(), &pub); err != nil {
		return fail(err)
	}
	wrapped, err := cbor.Marshal(e.AuthData) // OpenSSH keeps it in its CBOR byte string
	if err != nil {
		return fail(err)
	}
	r := (*C.struct_sk_enroll_response)(C.calloc(1, C.sizeof_struct_sk_enroll_response))
	r.flags = flags
	give(pub.Point, &r.public_key, &r.public_key_len)
	give(e.CredentialID, &r.key_handle, &r.key_handle_len)
	give(e.Signature, &r.signature, &r.signature_len)
	give(e.Cert, &r.attestation_cert, &r.attestation_cert_len)
	give(wrapped, &r.authdata, &r.authdata_len)
	*out = r
	return 0
}

//export sk_sign
func sk_sign(alg C.uint32_t, data *C.uint8_t, dataLen C.size_t, application *C.char, handle *C.uint8_t, handleLen C.size_t,
	flags C.uint8_t, pin *C.char, options **C.struct_sk_option, out **C.struct_sk_sign_response) C.int {
	if alg != C.SSH_SK_ECDSA {
		return C.SSH_SK_ERR_UNSUPPORTED
	}
	a, uv, err := key(flags, pin)
	if err != nil {
		return fail(err)
	}
	app := C.GoString(application)
	msg := C.GoBytes(unsafe.Pointer(data), C.int(dataLen))
	id := C.GoBytes(unsafe.Pointer(handle), C.int(handleLen))
	var sig *ssh.Signature
	if flags&C.SSH_SK_USER_PRESENCE_REQD != 0 {
		sig, err = a.SignSK(app, msg, id, uv)
	} else {
		sig, err = a.SignSilently(app, msg, id)
	}
	if err != nil {
		return fail(err)
	}
	var rs struct{ R, S *big.Int }
	if err := ssh.Unmarshal(sig.Blob, &rs); err != nil {
		return fail(err)
	}
	r := (*C.struct_sk_sign_response)(C.calloc(1, C.sizeof_struct_sk_sign_response))
	r.flags = C.uint8_t(sig.Rest[0])
	r.counter = C.uint32_t(binary.BigEndian.Uint32(sig.Rest[1:]))
	give(rs.R.Bytes(), &r.sig_r, &r.sig_r_len)
	give(rs.S.Bytes(), &r.sig_s, &r.sig_s_len)
	*out = r
	return 0
}

//export sk_load_resident_keys
func sk_load_resident_keys(pin *C.char, options **C.struct_sk_option, keys ***C.struct_sk_resident_key, n *C.size_t) C.int {
	return C.SSH_SK_ERR_UNSUPPORTED
}
