package agent

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/crypto/ssh"

	"breakglass/agent/fido2/wire"
	"breakglass/agent/keys"
	"breakglass/internal/name"
)

// HardwareEnroller makes credentials through the helper.
type HardwareEnroller struct {
	FIDO2 *keys.FIDO2
	Key   name.Key
	// Exclude are the person's credentials so far: one key enrolled twice is no second key.
	Exclude [][]byte
}

// Enrol is Enroller's.
func (h *HardwareEnroller) Enrol(ctx context.Context, person name.Person, challenge []byte) (Credential, error) {
	var ex []wire.Key
	for _, id := range h.Exclude {
		ex = append(ex, wire.Key{CredentialID: id})
	}
	c, err := h.FIDO2.Enrol(ctx, h.Key, person, challenge, ex)
	if err != nil {
		return Credential{}, err
	}
	pub, err := ssh.ParsePublicKey(c.PublicKey)
	if err != nil {
		return Credential{}, fmt.Errorf("reading the new key: %w", err)
	}
	return Credential{
		PublicKey: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(pub))), CredentialID: c.CredentialID,
		Format: c.Format, AuthData: c.AuthData, Cert: c.Certificate, Signature: c.Signature,
	}, nil
}
