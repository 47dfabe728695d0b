package api

import "time"

// MaxSeen is how many tokens a request may bring: with the connection's own address that makes MaxSeen+1 sources.
const MaxSeen = 3

// SeenAsk asks from which address the CA sees the asker (POST /v1/seen). A client that reaches the CA over IPv4 and over IPv6 asks over each
// before a request, since nobody knows over which of them its ssh will reach the jump.
type SeenAsk struct {
	ClientKey string `json:"client_key"` // of the request that will bring the token; authorized_keys form, ed25519
}

// Seen is the answer. The token says so to the CA itself, for the client key that asked and for a minute.
type Seen struct {
	Address string    `json:"address"`
	Expires time.Time `json:"expires"`
	Token   string    `json:"token"`
}
