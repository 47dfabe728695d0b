// Package recovery puts the recovery key on paper, whole or in shares of which two open it, and takes it back from there.
//
// It guarantees that what is typed back is what was printed: a wrong letter is found in its line, lines of two sheets or of two keys are told apart, and a key
// that comes out is the one whose public half the sheet names. One share says nothing of the key, not even to somebody who can compute without end: its bytes
// are as likely under every key. The public half, and its fingerprint on the sheets, are public.
//
// # A sheet, version 1
//
// Fifty bytes, printed as five numbered lines of ten bytes, each four groups of four letters and a fifth that checks the line:
//
//	1  XXXX XXXX XXXX XXXX  CCCC
//
//	byte 0       version: 1
//	byte 1       kind: 1 X25519, 2 post-quantum hybrid (age's MLKEM768-X25519)
//	byte 2       how many shares open it: 1 (this sheet is whole) or 2
//	byte 3       how many shares were made: 1 to 9
//	byte 4       x: which share this is, 1 to that; of a whole sheet 0
//	bytes 5-9    the first five bytes of SHA-256(recipient): which key
//	bytes 10-41  the key's 32 secret bytes, or the share of them
//	bytes 42-49  the first eight bytes of SHA-256("breakglass recovery v1\nsheet\n" ‖ bytes 0-41)
//
// The letters are Crockford's base32 (0-9 A-Z without I, L, O, U), five bits a letter, most significant first; typed back, small letters count, O is 0, I and L
// are 1, and spaces and hyphens don't matter. CCCC are the first twenty bits of SHA-256("breakglass recovery v1\nline\n" ‖ number ‖ the ten bytes),
// the number being one byte, 1 to 5.
//
// A share of byte s of the key is s + r·x in GF(2^8) with the polynomial x^8+x^4+x^3+x+1 (FIPS 197 section 4.2), r a random byte of its own for each s, the same in
// all shares (Shamir 1979, of degree one). Two shares give s back: (y1·x2 + y2·x1) / (x1 + x2).
//
// A whole sheet is also age's own text of the key (AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1…), which stock age reads with nothing of ours.
package recovery
