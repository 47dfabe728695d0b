package policy

import (
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bounds of [enrolment].
const (
	maxKeysRequired = 5
	maxRenewDays    = 400 // a key that nobody has seen for longer is lost
	maxGraceDays    = 60
	maxModels       = 200
)

// Enrolment is what is asked of hardware keys, with its defaults filled in.
type Enrolment struct {
	// KeysRequired is how many keys that count a person has to have: 2, in the demo profile 1. Who has fewer needs an approval more.
	KeysRequired int
	// Renew is how long an enrolment counts without proof that every key is still there; Grace how long after that it counts with an
	// approval more.
	Renew, Grace time.Duration
	// CoolingOff is how long a key waits after it was vouched for: time to see the alert.
	CoolingOff time.Duration
	// Models are the only hardware that a production site enrols. Empty in the demo profile: then nothing is attested.
	Models []Model
	Line   int
}

// Model is a make of hardware key, told by its attestation.
type Model struct {
	Name     string
	AAGUID   [16]byte
	Firmware string     // at least, "5.7.0"; empty: any
	Roots    [][32]byte // SHA-256 of the DER of the root certificates that may vouch for it
	Line     int
}

// softwareAAGUID is the model of internal/softkey, which has its key in memory: no production policy may name it.
const softwareAAGUID = "627265616b676c6173732d736f667421"

func firmwarePattern() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,3}){0,2}$`) }

func (c *compiler) enrolment(f *file) {
	e, in := &c.p.Enrolment, &f.Enrolment
	at := func(key string) []string { return []string{"enrolment", key} }
	e.Line = c.line("enrolment")
	required := 2
	e.CoolingOff = DefaultCoolingOff
	if c.p.Profile == Demo {
		required, e.CoolingOff = 1, 0
	}
	e.KeysRequired = c.number(in.KeysRequired, at("keys_required"), required, 1, maxKeysRequired)
	day := 24 * time.Hour
	e.Renew = time.Duration(c.number(in.RenewDays, at("renew_days"), DefaultRenewDays, 1, maxRenewDays)) * day
	e.Grace = time.Duration(c.number(in.GraceDays, at("grace_days"), DefaultGraceDays, 1, maxGraceDays)) * day
	if c.ix.has(at("cooling_off")...) && in.CoolingOff == "0s" {
		e.CoolingOff = 0
	} else {
		e.CoolingOff = c.duration(in.CoolingOff, at("cooling_off"), e.CoolingOff)
	}
	if len(in.Models) > maxModels {
		c.key([]string{"enrolment"}, "", "more than %d models", maxModels)
		return
	}
	for i := range in.Models {
		c.model(&in.Models[i], i)
	}
}

func (c *compiler) model(in *fileModel, i int) {
	at := func(key string) []string { return []string{"enrolment", "model", strconv.Itoa(i), key} }
	m := Model{Name: in.Name, Firmware: in.Firmware, Line: c.line("enrolment", "model", strconv.Itoa(i))}
	if strings.TrimSpace(in.Name) == "" || strings.ContainsFunc(in.Name, isControl) {
		c.at(at("name"), `write name = "YubiKey 5 NFC"`, "a model without a name")
	}
	id := strings.ReplaceAll(strings.ToLower(in.AAGUID), "-", "")
	b, err := hex.DecodeString(id)
	switch {
	case err != nil || len(b) != len(m.AAGUID):
		c.at(at("aaguid"), `write it like "2fc0579f-8113-47ea-b116-bb5a8db9202a"`, "aaguid %q", in.AAGUID)
	case id == strings.Repeat("0", 32):
		c.at(at("aaguid"), "", "an aaguid of zeros is what keys say that won't tell their model")
	case id == softwareAAGUID && c.p.Profile == Production:
		c.at(at("aaguid"), "", "that is the software key of the demo: it never counts in production")
	}
	copy(m.AAGUID[:], b)
	if c.ix.has(at("firmware")...) && !firmwarePattern().MatchString(in.Firmware) {
		c.at(at("firmware"), `write it like "5.7.0"`, "firmware %q", in.Firmware)
	}
	if len(in.Roots) == 0 {
		c.at(at("roots"), "write the SHA-256 of the vendor's root certificate (DER)", "model %q has no roots: nothing could vouch for it", in.Name)
	}
	for n, s := range in.Roots {
		h, err := hex.DecodeString(strings.ToLower(s))
		if err != nil || len(h) != 32 {
			c.at(element(at("roots"), n), "64 hex digits: openssl x509 -in ROOT.pem -outform DER | sha256sum", "root %q", s)
			continue
		}
		m.Roots = append(m.Roots, [32]byte(h))
	}
	for _, o := range c.p.Enrolment.Models {
		if o.AAGUID == m.AAGUID && err == nil {
			c.at(at("aaguid"), "put both roots into one model", "model %q (line %d) has that aaguid", o.Name, o.Line)
		}
	}
	c.p.Enrolment.Models = append(c.p.Enrolment.Models, m)
}

// override reads "after 10m"; 0 is none.
func (c *compiler) override(s string, path []string, otherwise time.Duration) time.Duration {
	if !c.ix.has(path...) {
		return otherwise
	}
	text, ok := strings.CutPrefix(s, "after ")
	d, err := time.ParseDuration(text)
	if !ok || err != nil || d < time.Second || d > maxDuration || d%time.Second != 0 {
		c.at(path, `write it like "after 10m"`, "%s = %q", path[len(path)-1], s)
		return otherwise
	}
	return d
}
