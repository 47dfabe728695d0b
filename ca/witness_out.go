package ca

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"breakglass/ca/state"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Witnesses outside speak C2SP tlog-witness: each new head is posted to them with the proof that it continues the last one that they cosigned.

const (
	// outsideTimeout bounds one call of a witness: it is somebody else's machine.
	outsideTimeout = 20 * time.Second
	// outsidePause and maxOutsidePause are between attempts that failed.
	outsidePause    = 2 * time.Second
	maxOutsidePause = 5 * time.Minute
	// outsideAgain is how often it is looked whether the site has other witnesses.
	outsideAgain = 30 * time.Second
	// maxOutsideAnswer bounds what a witness may answer: its lines.
	maxOutsideAnswer = 16 << 10
)

// errRefusedByWitness says that a witness holds another history to be this ledger's (409 and 422 of tlog-witness).
var errRefusedByWitness = errors.New("a witness refuses the ledger's head")

// askOutside keeps one errand going for each witness outside that the site has.
func (c *CA) askOutside(ctx context.Context) {
	running := map[string]context.CancelFunc{} // by name and URL
	done := make(chan string)
	defer func() {
		for range running {
			<-done // the context is over
		}
	}()
	t := time.NewTicker(outsideAgain)
	defer t.Stop()
	for {
		ws, _, err := c.witnesses(ctx)
		if err == nil {
			want := map[string]bool{}
			for _, w := range ws.List {
				id := w.Name + " " + w.URL
				if w.URL == "" {
					continue
				}
				want[id] = true
				if running[id] == nil {
					errand, cancel := context.WithCancel(ctx)
					running[id] = cancel
					go func() { c.errand(errand, w); done <- id }()
				}
			}
			for id, cancel := range running {
				if !want[id] {
					cancel()
				}
			}
		}
		select {
		case id := <-done:
			running[id]()
			delete(running, id)
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// errand has one witness cosign each new head.
func (c *CA) errand(ctx context.Context, w ledger.Witness) {
	var old int64 // what it cosigned last, as far as is known
	pause := outsidePause
	for ctx.Err() == nil {
		note, err := c.witnessHead(ctx, old, outsideAgain)
		if err != nil {
			return
		}
		var now int64
		if now, err = c.askWitness(ctx, w, old, note); err == nil {
			old, pause = now, outsidePause
			select {
			case <-c.cosigning.stop: // the CA stops: nobody waits for a head any more
				return
			default:
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRefusedByWitness) {
			c.log.Error("a witness refuses the ledger's head: was the ledger put back from an old copy?", "witness", w.Name, "error", err)
		} else {
			c.log.Warn("a witness can't be asked", "witness", w.Name, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxOutsidePause)
	}
}

// askWitness posts one head (add-checkpoint) and gives the size that the witness has then.
func (c *CA) askWitness(ctx context.Context, w ledger.Witness, old int64, note string) (int64, error) {
	_, vkey, err := c.witnesses(ctx)
	if err != nil {
		return 0, err
	}
	head, err := ledger.OpenCheckpoint(note, vkey)
	if err != nil {
		return 0, err
	}
	if head.Size == old {
		return old, nil
	}
	for range 3 { // it may know more, or less, than we thought
		if old > head.Size {
			return 0, fmt.Errorf("%w: it has cosigned %d entries, the ledger has %d", errRefusedByWitness, old, head.Size)
		}
		status, answer, err := c.addCheckpoint(ctx, w.URL, old, head, note)
		if err != nil {
			return 0, err
		}
		switch status {
		case http.StatusOK:
			return head.Size, c.cosigned(ctx, note+answer)
		case http.StatusConflict:
			n, err := strconv.ParseInt(strings.TrimSuffix(answer, "\n"), 10, 64)
			if err != nil || n < 0 {
				return 0, fmt.Errorf("it answers %d with %.80q", status, answer)
			}
			if n == old {
				return 0, fmt.Errorf("%w: another root of %d entries", errRefusedByWitness, n)
			}
			old = n
		case http.StatusUnprocessableEntity:
			return 0, fmt.Errorf("%w: %d %.200q", errRefusedByWitness, status, answer)
		default:
			return 0, fmt.Errorf("it answers %d %.200q", status, answer)
		}
	}
	return 0, errors.New("it says another size each time")
}

func (c *CA) addCheckpoint(ctx context.Context, url string, old int64, head ledger.Checkpoint, note string) (status int, answer string, err error) {
	var proof []statement.Hash
	if err := c.state.View(ctx, func(tx *state.Tx) (err error) {
		proof, err = tx.Consistency(old, head.Size)
		return err
	}); err != nil {
		return 0, "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", old)
	for _, h := range proof {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n" + note)
	ctx, cancel := context.WithTimeout(ctx, outsideTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(url, "/")+"/add-checkpoint", strings.NewReader(b.String()))
	if err != nil {
		return 0, "", err
	}
	// No redirect: a head is posted where the site says, and nowhere else.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxOutsideAnswer))
	return resp.StatusCode, string(text), err
}
