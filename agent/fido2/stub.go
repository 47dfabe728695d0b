//go:build !cgo || nolibfido2

package fido2

import (
	"context"

	"breakglass/agent/fido2/wire"
)

// List gives wire.NoBackend, as everything here does: this build has no libfido2.
func List() ([]wire.Device, error) { return nil, wire.NoBackend.Err() }

// Describe gives wire.NoBackend.
func Describe(_ context.Context, dev wire.Device) (wire.Device, error) {
	return dev, wire.NoBackend.Err()
}

// Probe gives wire.NoBackend.
func Probe(context.Context, string, string, [][]byte) ([][]byte, error) {
	return nil, wire.NoBackend.Err()
}

// MakeCredential gives wire.NoBackend.
func MakeCredential(context.Context, wire.Device, *CredentialRequest) (*wire.Credential, error) {
	return nil, wire.NoBackend.Err()
}

// Derive gives wire.NoBackend.
func Derive(context.Context, wire.Device, *DeriveRequest) (*[SecretLen]byte, error) {
	return nil, wire.NoBackend.Err()
}

// Assert gives wire.NoBackend.
func Assert(context.Context, wire.Device, *AssertionRequest) (*Assertion, error) {
	return nil, wire.NoBackend.Err()
}
