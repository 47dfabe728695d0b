package ca

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"breakglass/ca/api"
	"breakglass/ca/state"
	"breakglass/ledger"
)

// The ledger as C2SP tlog-tiles (/checkpoint, /tile/…): any client or monitor of such logs reads it. Hashes are public; entry bundles hold what people said, and are a
// pass's or a jump's.

// witnessRoutes are what witnesses and readers of tiles ask.
func (c *CA) witnessRoutes(on func(string, int64, func(*call) (any, error))) {
	text := func(s string) any { return raw{[]byte(s), "text/plain; charset=utf-8"} }
	on("GET /checkpoint", 0, func(*call) (any, error) {
		if _, note := c.Witnessed(); note != "" {
			return text(note), nil
		}
		return text(c.Checkpoint()), nil
	})
	on("GET /tile/{path...}", 0, func(k *call) (any, error) {
		t, err := ledger.ParseTilePath(strings.TrimPrefix(k.URL.Path, "/"))
		if err != nil {
			return nil, badRequest("%v", err)
		}
		if t.L < 0 && (k.who == nil || k.who.person == "" && k.who.jump == "") {
			return nil, passNeeded()
		}
		b, err := c.tile(k, t)
		return raw{b, "application/octet-stream"}, err
	})
	on("GET /v1/witness", 0, func(k *call) (any, error) {
		if k.who == nil || k.who.jump == "" {
			return nil, passNeeded()
		}
		q := k.URL.Query()
		after, err1 := strconv.ParseInt(q.Get("after"), 10, 64)
		wait, err2 := strconv.Atoi(q.Get("wait"))
		if err := errors.Join(err1, err2); err != nil || after < 0 || wait < 0 || wait > int(api.MaxListen.Seconds()) {
			return nil, badRequest("want after=SIZE and wait=SECONDS, at most %d", int(api.MaxListen.Seconds()))
		}
		if !c.cosigning.enter(k.who.jump) {
			return nil, &api.Problem{Status: 429, Code: api.CodeTooMany, Detail: "too many calls of jumps wait already", Next: []string{"try again"}}
		}
		defer c.cosigning.leave(k.who.jump)
		note, err := c.witnessHead(k.Context(), after, time.Duration(wait)*time.Second)
		return text(note), err
	})
	// A head with a cosignature, as it is (C2SP signed-note).
	on("POST /v1/witness", api.MaxBody, func(k *call) (any, error) {
		if k.who == nil || k.who.jump == "" {
			return nil, passNeeded()
		}
		return nil, c.cosigned(k.Context(), string(k.body))
	})
}

func (c *CA) tile(k *call, t ledger.Tile) (b []byte, err error) {
	err = c.state.View(k.Context(), func(tx *state.Tx) error {
		if !ledger.InTree(t, tx.Size()) {
			return &api.Problem{Status: 404, Code: api.CodeNotFound, Detail: fmt.Sprintf("no such tile: the ledger has %d entries", tx.Size())}
		}
		if t.L >= 0 {
			b, err = ledger.HashTile(t, tx)
			return err
		}
		for n := range int64(t.W) {
			e, err := tx.Entry(t.N*ledger.BundleEntries + n)
			if err != nil {
				return err
			}
			if b, err = ledger.AppendBundle(b, e); err != nil {
				return err
			}
		}
		return nil
	})
	return b, err
}
