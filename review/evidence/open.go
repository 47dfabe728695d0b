package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"breakglass/internal/name"
	"breakglass/transcript"
)

// ErrNoEnvelope says that the bundle's maker was not handed the envelope: the recording is there, and stays sealed.
var ErrNoEnvelope = errors.New("the bundle does not hold the recording's envelope")

// ErrNoRecording says that the bundle doesn't hold that recording.
var ErrNoRecording = errors.New("the bundle does not hold that recording")

// Open finds a session's recording in a bundle ("" is the first) and unlocks it. It proves nothing: Verify comes before.
func Open(r io.Reader, id name.SessionID, identities ...age.Identity) (*transcript.Reader, error) {
	in := &reader{r: r}
	var envelope []byte
	var envelopeOf string
	for {
		member, size, err := in.next()
		if err == io.EOF {
			return nil, ErrNoRecording
		}
		if err != nil {
			return nil, fmt.Errorf("reading bundle: %w", err)
		}
		if base, ok := strings.CutSuffix(member, suffixEnvelope); ok && size <= transcript.MaxEnvelope {
			if envelope, err = io.ReadAll(in); err != nil {
				return nil, fmt.Errorf("reading bundle: %w", err)
			}
			envelopeOf = base
		}
		base, ok := strings.CutSuffix(member, suffixTranscript)
		if !ok || id != "" && base != id.File() {
			continue
		}
		if envelope == nil || envelopeOf != base {
			return nil, ErrNoEnvelope
		}
		first, h, err := firstFrame(in)
		if err != nil {
			return nil, err
		}
		k, err := transcript.OpenEnvelope(h, envelope, identities...)
		if err != nil {
			return nil, err
		}
		rd, err := transcript.NewReader(io.MultiReader(bytes.NewReader(first), in))
		if err == nil {
			err = rd.Unlock(k)
		}
		return rd, err
	}
}
