package evidence

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"breakglass/internal/name"
)

// Result is a verdict's first word.
type Result string

const (
	Verified       Result = "VERIFIED"        // and every recording opened
	VerifiedSealed Result = "VERIFIED sealed" // recordings hold together; nobody here could open them
	VerifiedUntil  Result = "VERIFIED-UNTIL"  // true as far as it goes: a recorder died, or a session has no end yet
	Failed         Result = "FAILED"
)

// ExitStatus is what a command ends with.
func (r Result) ExitStatus() int {
	switch r {
	case Verified, VerifiedSealed:
		return 0
	case VerifiedUntil:
		return 21
	}
	return 20
}

// Check is one line of a verdict: what was found true.
type Check struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Failure is one thing that is wrong, and where.
type Failure struct {
	Where string `json:"where"` // "entry 12 (request.opened)", "recording k7f-2mq/1", "bundle", "log"
	What  string `json:"what"`
}

// RecordingVerdict is what was found of one session.
type RecordingVerdict struct {
	Session name.SessionID `json:"session"`
	Opened  bool           `json:"opened"` // seals and events were checked too
	Ended   bool           `json:"ended"`
	Until   time.Time      `json:"until,omitzero"` // where it is not ended: the last moment that is proven
	Records uint64         `json:"records"`
	Frames  uint64         `json:"frames"`
	Bytes   int64          `json:"bytes"`
}

// Verdict is the outcome of Verify.
type Verdict struct {
	Result     Result             `json:"verdict"`
	Until      string             `json:"until,omitempty"` // of VerifiedUntil
	Request    name.RequestID     `json:"request,omitempty"`
	Person     name.Person        `json:"person,omitempty"`
	Login      name.Login         `json:"login,omitempty"`
	Host       name.Host          `json:"host,omitempty"`
	Reason     string             `json:"reason,omitempty"`
	Decision   string             `json:"decision,omitempty"`   // "allowed", "denied", or "waiting"
	Overridden int                `json:"overridden,omitempty"` // approvals that were missing, and that the requester went on without
	Checks     []Check            `json:"checks"`
	Recordings []RecordingVerdict `json:"recordings"`
	Notes      []string           `json:"notes,omitempty"` // what was not checked, and why
	Failures   []Failure          `json:"failures,omitempty"`
	More       int                `json:"more,omitempty"` // failures that were left out
}

// Line is the first line.
func (v *Verdict) Line() string {
	switch {
	case v.Result == Failed && len(v.Failures) > 0:
		return fmt.Sprintf("%s %s: %s", v.Result, v.Failures[0].Where, v.Failures[0].What)
	case v.Result == VerifiedUntil:
		return fmt.Sprintf("%s %s", v.Result, v.Until)
	}
	return string(v.Result)
}

// WriteText writes the verdict for people: the first line, then what stands behind it.
func (v *Verdict) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintln(w, printable(v.Line())); err != nil {
		return err
	}
	for i, f := range v.Failures {
		if i > 0 {
			fmt.Fprintf(w, "  %-11s %s: %s\n", "also", printable(f.Where), printable(f.What))
		}
	}
	if v.More > 0 {
		fmt.Fprintf(w, "  %-11s %d more\n", "also", v.More)
	}
	for _, c := range v.Checks {
		fmt.Fprintf(w, "  %-11s %s\n", c.Name, printable(c.Text))
	}
	for _, n := range v.Notes {
		fmt.Fprintf(w, "  %-11s %s\n", "note", printable(n))
	}
	return nil
}

// WriteJSON writes the verdict for programs.
func (v *Verdict) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// maxLine bounds what a hostile bundle can make a person scroll through.
const maxLine = 600

// printable keeps a bundle's text from driving the terminal on which it is shown.
func printable(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if len(out) >= maxLine {
			return string(out) + " …"
		}
		if unsafe(r) {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
