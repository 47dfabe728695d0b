package api

// CosignAsk hands in a head of the ledger: a signed note with the ledger's signature and a witness's cosignature (C2SP tlog-cosignature).
type CosignAsk struct {
	Checkpoint string `json:"checkpoint"`
}
