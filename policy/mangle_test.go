package policy

import (
	"errors"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// keysOf lists the keys of a type of file.go, as the file writes them.
func keysOf(t reflect.Type, out map[string]bool) {
	switch t.Kind() {
	case reflect.Slice, reflect.Map:
		keysOf(t.Elem(), out)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if key := f.Tag.Get("toml"); f.Type.Kind() != reflect.Struct && f.Type.Kind() != reflect.Map && (f.Type.Kind() != reflect.Slice || f.Type.Elem().Kind() != reflect.Struct) {
				out[t.Name()+"."+key] = true
			}
			keysOf(f.Type, out)
		}
	}
}

// tableTypes says which type stands under a table header.
func tableType(header string) string {
	for _, h := range [][2]string{{"[[test.live]]", "fileTestLive"}, {"[[test]]", "fileTest"}, {"[[rule]]", "fileRule"}, {"[[enrolment.model]]", "fileModel"}, {"[enrolment]", "fileEnrolment"},
		{"[site]", "fileSite"}, {"[people.", "filePerson"}, {"[windows.", "fileWindow"}, {"[oncall.", "fileRoster"}, {"[failures.", "fileFailure"}, {"[always]", "fileAlways"},
		{"[jumps.", "fileJump"}, {"[vias.", "fileVia"}, {"[host_groups.", "fileHostGroup"}, {"[hosts.", "fileHost"}, {"[networks]", ""}} {
		if strings.HasPrefix(header, h[0]) {
			return h[1]
		}
	}
	return "file"
}

// keyLines gives for each line "key = value" of the file the type whose key it is.
func everyLines(t *testing.T) (lines []string, types map[int]string) {
	t.Helper()
	src, err := os.ReadFile("testdata/v1/every.toml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load("every.toml", src); err != nil {
		t.Fatal(err)
	}
	lines, types = strings.Split(string(src), "\n"), map[int]string{}
	current := "file"
	for i, line := range lines {
		if strings.HasPrefix(line, "[") {
			current = tableType(line)
		}
		if _, _, ok := strings.Cut(line, " = "); ok && current != "" {
			types[i] = current
		}
	}
	return lines, types
}

// faultsAt loads the file with one line changed, and gives what is found on that line.
func faultsAt(t *testing.T, lines []string, i int, line string) (on []Fault, all error) {
	t.Helper()
	changed := append([]string(nil), lines...)
	changed[i] = line
	_, err := Load("every.toml", []byte(strings.Join(changed, "\n")))
	var faults *LoadError
	if errors.As(err, &faults) {
		for _, f := range faults.Faults {
			if f.Line == i+1 {
				on = append(on, f)
			}
		}
	}
	return on, err
}

// TestEveryKeyIsThere: the file of these tests has each key of each table.
func TestEveryKeyIsThere(t *testing.T) {
	want, have := map[string]bool{}, map[string]bool{}
	keysOf(reflect.TypeFor[file](), want)
	lines, types := everyLines(t)
	for i, typ := range types {
		key, _, _ := strings.Cut(lines[i], " = ")
		have[typ+"."+key] = true
	}
	if len(want) < 80 {
		t.Fatalf("%d keys: what was asked?", len(want))
	}
	for key := range want {
		if !have[key] {
			t.Errorf("every.toml has no %s", key)
		}
	}
	for key := range have {
		if !want[key] {
			t.Errorf("%s is no key", key)
		}
	}
}

// TestEveryMisspeltKeyIsSuggested: a letter doubled, left out, or another way round; each is refused on its line, with the key that was meant.
func TestEveryMisspeltKeyIsSuggested(t *testing.T) {
	lines, types := everyLines(t)
	for i := range types {
		key, value, _ := strings.Cut(lines[i], " = ")
		n := len(key) / 2
		for _, typo := range []string{key[:n] + key[n:n+1] + key[n:], key[:n] + key[n+1:], key[:n-1] + key[n:n+1] + key[n-1:n] + key[n+1:], strings.ToUpper(key[:1]) + key[1:]} {
			if typo == key || types[i] == "fileTest" && (typo == "form") {
				continue
			}
			on, all := faultsAt(t, lines, i, typo+" = "+value)
			found := false
			for _, f := range on {
				found = found || strings.Contains(f.Message, "unknown key") && strings.Contains(f.Hint, "did you mean") && (strings.Contains(f.Hint, `"`+key+`"`) || len(key) <= 4) && f.carets() == strings.Repeat("^", len(typo))
			}
			if !found {
				t.Errorf("line %d: %s: nothing there suggests %q: %v", i+1, typo, key, all)
			}
		}
	}
}

// anyText are values in which a typo makes another valid value: names that are defined there, texts, and patterns.
func anyText(key string) bool {
	return regexp.MustCompile(`^(fileSite\.name|filePerson\..*|fileRoster\.file|fileFailure\.why|fileVia\.login|fileModel\.name|fileHost\.groups|fileHost\.address|fileAlways\.severities|` +
		`fileRule\.(name|why|logins|ticket|forwards)|fileTest\.(name|person|host|login|severity|failure|reason|ticket|forwards|approved|refused))$`).MatchString(key)
}

// TestEveryMisspeltValueIsRefused: whatever the policy knows the values of, a misspelt one is refused on its line, with something to write instead.
func TestEveryMisspeltValueIsRefused(t *testing.T) {
	lines, types := everyLines(t)
	quoted := regexp.MustCompile(`"[^"]*"`)
	mangled := 0
	for i, typ := range types {
		key, value, _ := strings.Cut(lines[i], " = ")
		if anyText(typ + "." + key) {
			continue
		}
		for _, at := range quoted.FindAllStringIndex(value, -1) {
			word := value[at[0]+1 : at[1]-1]
			n := len(word) / 2
			for k, typo := range []string{word[:n] + "q" + word[n:], "", word[:n] + word[n+1:] + "q"} {
				if k == 2 && strings.HasPrefix(word, "ssh-") {
					continue // another key, of the same length: nothing in it tells
				}
				mangled++
				on, all := faultsAt(t, lines, i, key+" = "+value[:at[0]+1]+typo+value[at[1]-1:])
				if len(on) == 0 {
					t.Errorf("line %d: %s = …%q… for %q: nothing on that line: %v", i+1, key, typo, word, all)
				} else if hint := on[0].Hint; hint == "" && !strings.Contains(on[0].Message, "want") {
					t.Errorf("line %d: %s = …%q… for %q: %q leaves the person alone", i+1, key, typo, word, on[0].Message)
				}
			}
		}
	}
	if mangled < 200 {
		t.Errorf("only %d values were mangled", mangled)
	}
	t.Logf("%d values", mangled)
}

// TestEveryValueOfAnotherTypeIsRefused: a number for a list, a text for a number; and numbers that nobody can mean.
func TestEveryValueOfAnotherTypeIsRefused(t *testing.T) {
	lines, types := everyLines(t)
	for i := range types {
		key, value, _ := strings.Cut(lines[i], " = ")
		wrong := []string{"{}", "1.5", "2026-01-01", "[[1]]"}
		switch {
		case strings.HasPrefix(value, `"`):
			wrong = append(wrong, "7", "true", `["x"]`)
		case strings.HasPrefix(value, "["):
			wrong = append(wrong, "7", "true", `"x"`)
			if !slices.Contains([]string{"groups", "trusted", "source", "forwards", "approvers"}, key) { // none is a word of its own, or a fault elsewhere
				wrong = append(wrong, "[]")
			}
		case value == "true" || value == "false":
			wrong = append(wrong, "7", `"yes"`, `["x"]`)
		default:
			wrong = append(wrong, "-1", "99999999", `"7"`, "true")
		}
		for _, w := range wrong {
			if types[i] == "fileTest" && w == "[]" || (key == "minutes" || key == "asn") && types[i] == "fileTest" && (w == "-1" || w == "99999999") {
				continue // a test of nothing, and what a person may well ask for
			}
			if on, all := faultsAt(t, lines, i, key+" = "+w); len(on) == 0 {
				t.Errorf("line %d: %s = %s: nothing on that line: %v", i+1, key, w, all)
			}
		}
	}
}
