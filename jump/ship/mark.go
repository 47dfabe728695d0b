package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"breakglass/internal/name"
	"breakglass/internal/statement"
	"breakglass/ledger"
)

// Shipped is what a KindShipped entry says: the store holds the envelope and all frames of entries below Next durably. It is durable before any entry
// below Next is trimmed, and stands behind them, so that of a stream without its beginning there is always one.
type Shipped struct {
	V        int            `json:"v"`
	Session  name.SessionID `json:"session"`
	Envelope statement.Hash `json:"envelope"`
	Next     uint64         `json:"next"` // number of the first entry that isn't stored
	Head     ledger.Head    `json:"head"` // of what is stored
}

const shippedVersion = 1

// errMark says that an entry is no mark that this program understands.
var errMark = errors.New("not a mark of what was stored")

func (m Shipped) encode() ([]byte, error) {
	m.V = shippedVersion
	return json.Marshal(m)
}

// parseShipped reads a mark. A crash gives it to whoever starts next, perhaps an older program: what it doesn't know it refuses.
func parseShipped(b []byte) (m Shipped, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%w: %w", errMark, err)
	}
	if again, err := m.encode(); err != nil || !bytes.Equal(again, b) { // one spelling
		return m, fmt.Errorf("%w: not written as this jump writes", errMark)
	}
	if id, err := name.ParseSessionID(string(m.Session)); err != nil || id != m.Session {
		return m, fmt.Errorf("%w: session %q", errMark, m.Session)
	}
	// At least header and envelope are stored, and there are no more frames than entries.
	if m.Next < 2 || m.Head.Frames < 1 || m.Head.Bytes < 5*m.Head.Frames || uint64(m.Head.Frames) >= m.Next {
		return m, fmt.Errorf("%w: %d frames of %d bytes in %d entries", errMark, m.Head.Frames, m.Head.Bytes, m.Next)
	}
	return m, nil
}
