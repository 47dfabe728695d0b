package main

import (
	"context"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"breakglass/ca/api/client"
	"breakglass/internal/name"
	"breakglass/jump/witness"
	"breakglass/ledger"
)

// witnessing is the jump's part as a witness of the CA's ledger. It is apart from letting people in: when it can't be, they still are.
type witnessing struct {
	w   *witness.Witness
	err error
}

func newWitnessing(d directory, c *config, site ledger.Site, key ssh.Signer, ca *client.Client, log *slog.Logger) *witnessing {
	o := &offering{Client: ca, log: log}
	w, err := witness.New(witness.Config{Dir: d.path("witness"), Jump: name.Jump(c.Name), Origin: site.Origin, LedgerKey: site.LedgerKey, Key: key, CA: o, Logger: log,
		Behind: o.behind, Refused: o.refused})
	o.mirror = func() *witness.Mirror { return w.Mirror() }
	if err != nil {
		log.Error("this jump can't be a witness of the ledger", "error", err)
	}
	return &witnessing{w, err}
}

func (w *witnessing) run(ctx context.Context) {
	if w.err != nil {
		return
	}
	defer w.w.Close()
	w.w.Run(ctx)
}

func (w *witnessing) status() witness.Status {
	if w.err != nil {
		return witness.Status{Problem: w.err.Error()}
	}
	return w.w.Status()
}
