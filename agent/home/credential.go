package home

import (
	"encoding/base64"
	"errors"
)

func encodeCredential(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

func decodeCredential(s string) ([]byte, error) {
	id, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(id) == 0 {
		return nil, errors.New("credential is not base64url")
	}
	return id, nil
}
