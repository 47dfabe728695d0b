package attest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

var errNotCanonical = errors.New("not CTAP2 canonical CBOR")

// Model is a make of hardware key that the policy lists.
type Model struct {
	Name     string
	AAGUID   [16]byte
	Firmware string     // at least, "5.7.0"; empty: any
	Roots    [][32]byte // SHA-256 of the DER of the roots that may vouch for it
}

// SoftwareAAGUID is the model of the software key of tests and demos. A key that says so never passes Verify.
func SoftwareAAGUID() [16]byte { return [16]byte([]byte("breakglass-soft!")) }

// Models reads the [[enrolment.model]] tables of a policy's text. Package policy judges a policy before it counts; this reads no more of one
// than a verifier needs, so that whoever has the ledger alone can hold an enrolment against the policy that was in force.
func Models(policy string) ([]Model, error) {
	var f struct {
		Enrolment struct {
			Model []struct {
				Name     string   `toml:"name"`
				AAGUID   string   `toml:"aaguid"`
				Firmware string   `toml:"firmware"`
				Roots    []string `toml:"roots"`
			} `toml:"model"`
		} `toml:"enrolment"`
	}
	if err := toml.Unmarshal([]byte(policy), &f); err != nil {
		return nil, fmt.Errorf("reading the policy's models: %w", err)
	}
	var out []Model
	for _, in := range f.Enrolment.Model {
		m := Model{Name: in.Name, Firmware: in.Firmware}
		b, err := hex.DecodeString(strings.ReplaceAll(in.AAGUID, "-", ""))
		if err != nil || len(b) != len(m.AAGUID) {
			return nil, fmt.Errorf("reading the policy's models: aaguid %q", in.AAGUID)
		}
		m.AAGUID = [16]byte(b)
		for _, r := range in.Roots {
			h, err := hex.DecodeString(r)
			if err != nil || len(h) != 32 {
				return nil, fmt.Errorf("reading the policy's models: root %q", r)
			}
			m.Roots = append(m.Roots, [32]byte(h))
		}
		out = append(out, m)
	}
	return out, nil
}

// FormatAAGUID writes an AAGUID as vendors do.
func FormatAAGUID(a [16]byte) string {
	s := hex.EncodeToString(a[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

func find(models []Model, aaguid [16]byte) (Model, error) {
	if aaguid == ([16]byte{}) {
		return Model{}, refuse(ModelCode, "the key doesn't tell its model (an AAGUID of zeros)")
	}
	i := slices.IndexFunc(models, func(m Model) bool { return m.AAGUID == aaguid })
	if i < 0 {
		return Model{}, refuse(ModelCode, "model %s is not one that the policy lists", FormatAAGUID(aaguid))
	}
	return models[i], nil
}

// judgeFirmware holds a batch certificate's firmware against the least that the model asks for.
func (m Model) judgeFirmware(have string) error {
	if m.Firmware == "" {
		return nil
	}
	if have == "" {
		return refuse(Firmware, "the policy asks for firmware %s of %s, and the key's certificate doesn't say its own", m.Firmware, m.Name)
	}
	least, err := version(m.Firmware)
	if err != nil {
		return refuse(Firmware, "the policy's %v", err)
	}
	got, err := version(have)
	if err != nil {
		return refuse(Firmware, "the key's %v", err)
	}
	if slices.Compare(got[:], least[:]) < 0 {
		return refuse(Firmware, "firmware %s, the policy asks for %s of %s", have, m.Firmware, m.Name)
	}
	return nil
}

// version reads up to three numbers; what is left out is 0.
func version(s string) (v [3]int, err error) {
	parts := strings.Split(s, ".")
	if len(parts) > len(v) {
		return v, fmt.Errorf("firmware %.32q is no version", s)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return v, fmt.Errorf("firmware %.32q is no version", s)
		}
		v[i] = int(n)
	}
	return v, nil
}
