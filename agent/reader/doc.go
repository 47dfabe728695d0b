// Package reader keeps a reader's age identities sealed under that person's hardware keys: opening takes one of those keys, its PIN (or finger) and a touch.
//
// It guarantees that the file alone, and the file with a stolen key but without its PIN, gives nothing; that a file somebody changed is refused before
// anything of it is used; and that a secret of one key opens no other key's line, nor a line of another file. What was read once can be read again by
// whoever did: taking a key out of the file stops nobody who has an older copy of the file, that key and its PIN. For that there is a new identity
// (`breakglass reviewer rotate`).
//
// # The file, version 1
//
// Text, each line ended by LF, exactly these in this order; base64 is the standard alphabet without padding; one space between fields.
//
//	breakglass reader v1
//	recipient: AGE             the public half of the first identity, age1… or age1pq1…
//	created: TIME              RFC 3339, UTC, whole seconds
//	key: NAME ID PUBLIC SALT BOX     one a hardware key, 1 to 16
//	identities: BASE64         the sealed identities
//	mac: BASE64                32 bytes
//
// ID is the credential id, PUBLIC the credential's public key (ssh wire format, application breakglass-reader), SALT 32 random bytes, BOX 48 bytes.
//
//	F    = 32 random bytes, the file key; another for each set of identities, so that nothing is ever sealed twice under one nonce
//	S    = hmac-secret(credential, SALT) of a verified user (CTAP 2.1 section 12.5)
//	W    = HKDF-SHA-256(S, salt SALT, info "breakglass reader v1\nkey\n" AGE "\n" ID "\n" PUBLIC "\n")
//	BOX  = ChaCha20-Poly1305(W, nonce 0^12, F)
//	identities = ChaCha20-Poly1305(HKDF-SHA-256(F, no salt, info "breakglass reader v1\nidentities\n" AGE "\n"), nonce 0^12, an age identity file)
//	mac  = HMAC-SHA-256(HKDF-SHA-256(F, no salt, info "breakglass reader v1\nmac\n"), all bytes up to and with "mac: ")
//
// ID and PUBLIC stand in the info as in the file. SALT is fresh for each line, so W is used once. The identities are one age secret key a line, the one in
// use first, those before it after; comment lines (#) may stand between. The recipient must be the first's public half.
//
// A passphrase's file is age's own (`age -d` opens it) and no business of this package.
package reader
