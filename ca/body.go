package ca

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// multiline are the members whose text has lines: a machine's statement, an armored signature, a signed head. All are parsed strictly afterwards.
var multiline = []string{"statement", "sshsig", "checkpoint"}

// checkBody is the edge at which text from outside is judged before anything reads it: JSON in UTF-8 in one spelling. encoding/json alone
// takes a member twice (the last counts), in any case of its letters, puts a question mark in the place of bytes that are no UTF-8, and lets
// controls through that would drive the terminal of whoever reads an alert or a list.
func checkBody(body []byte) error {
	if !utf8.Valid(body) {
		return fmt.Errorf("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := checkValue(d, "", 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF { // More would pass a lone closing bracket
		return fmt.Errorf("something follows the JSON")
	}
	return nil
}

// maxDepth bounds the nesting: nothing that is asked has more than four levels.
const maxDepth = 16

func checkValue(d *json.Decoder, member string, depth int) error {
	tok, err := d.Token()
	if err != nil {
		return fmt.Errorf("reading the JSON: %w", err)
	}
	if depth > maxDepth {
		return fmt.Errorf("the JSON is nested too deep")
	}
	switch t := tok.(type) {
	case string:
		return checkText(member, t)
	case json.Delim:
		var seen []string
		for d.More() {
			if t == '{' {
				key, err := d.Token()
				if err != nil {
					return fmt.Errorf("reading the JSON: %w", err)
				}
				name, _ := key.(string) // or Token had failed
				if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
					return fmt.Errorf("%q is no member of anything", name)
				}
				if slices.Contains(seen, name) {
					return fmt.Errorf("%s stands twice", name)
				}
				seen, member = append(seen, name), name
			}
			if err := checkValue(d, member, depth+1); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return fmt.Errorf("reading the JSON: %w", err)
		}
	}
	return nil
}

// checkText refuses what a terminal would act on, or show as something else than it is: controls, marks that turn the direction or show
// nothing, separators of lines and paragraphs, and what stands for bytes that were no text.
func checkText(member, s string) error {
	for _, r := range s {
		switch {
		case ' ' <= r && r <= '~': // nearly all of nearly every text
		case r == '\n' && slices.Contains(multiline, member):
		case r == utf8.RuneError, unicode.IsControl(r), unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			return fmt.Errorf("%s: %q is no character of a text", member, r)
		}
	}
	return nil
}
