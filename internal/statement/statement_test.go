package statement

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write golden files that don't exist yet")

var kinds = []Kind{KindRequest, KindEnrolment, KindFounding, KindSuccession, KindRecipient, KindReadingRotation, KindPass, KindTOTP, KindOrder, KindRenewal, KindLoss, KindPolicy, KindCall, KindSession, KindFact}

// fill gives every field of a statement a value that depends on its place, so that a swapped pair shows.
func fill(s Statement) Statement {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		switch p := v.Field(i).Addr().Interface().(type) {
		case *time.Time:
			*p = time.Date(2026, 11, 24, 3, 0, i, 0, time.UTC)
		case *Nonce:
			p[0], p[31] = byte(i), 0xff
		case *Hash:
			p[0], p[31] = byte(i), 0xfe
		case *Checkpoint:
			p.Size, p.Root[0] = int64(i), byte(i)
		case *[]string:
			*p = []string{"one", "two three"}
		default:
			switch v.Field(i).Kind() {
			case reflect.String:
				v.Field(i).SetString("value " + v.Type().Field(i).Tag.Get("st"))
			case reflect.Int, reflect.Int64:
				v.Field(i).SetInt(int64(i))
			}
		}
	}
	return s
}

func TestGolden(t *testing.T) {
	for _, k := range kinds {
		s := fill(New(k))
		got, err := Marshal(s)
		if err != nil {
			t.Fatal(k, err)
		}
		file := filepath.Join("testdata", "v1", string(k)+".txt")
		if _, err := os.Stat(file); *update && errors.Is(err, os.ErrNotExist) {
			os.MkdirAll(filepath.Dir(file), 0o755)
			os.WriteFile(file, got, 0o644)
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the format changed; v1 is final\ngot:\n%s\nwant:\n%s", k, got, want)
		}
		back := New(k)
		if err := Parse(want, back); err != nil {
			t.Fatal(k, err)
		}
		if !reflect.DeepEqual(back, s) {
			t.Errorf("%s: got %+v, want %+v", k, back, s)
		}
		if kk, err := KindOf(want); kk != k || err != nil {
			t.Errorf("KindOf: %q, %v", kk, err)
		}
		empty, err := Marshal(New(k))
		if err != nil {
			t.Fatal(err)
		}
		if err := Parse(empty, New(k)); err != nil {
			t.Errorf("%s: empty: %v", k, err)
		}
	}
}

// TestMangled changes a good statement in each way a person or an intruder could.
func TestMangled(t *testing.T) {
	good, err := Marshal(fill(New(KindRequest)))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(good), "\n")
	for name, bad := range map[string]string{
		"nothing":               "",
		"another kind":          strings.Replace(string(good), "breakglass request v1", "breakglass pass v1", 1),
		"another version":       strings.Replace(string(good), "request v1", "request v2", 1),
		"a line left out":       strings.Join(append(append([]string{}, lines[:3]...), lines[4:]...), ""),
		"a line twice":          strings.Join(append(append([]string{}, lines[:4]...), lines[3:]...), ""),
		"a line more":           string(good) + "admin: yes\n",
		"two lines swapped":     strings.Join(append(append([]string{}, lines[0], lines[2], lines[1]), lines[3:]...), ""),
		"no last line feed":     strings.TrimSuffix(string(good), "\n"),
		"carriage returns":      strings.ReplaceAll(string(good), "\n", "\r\n"),
		"two spaces":            strings.Replace(string(good), "person: ", "person:  ", 1),
		"a trailing space":      strings.Replace(string(good), "value host\n", "value host \n", 1),
		"an escape":             strings.Replace(string(good), "value reason", "value \x1b[2J", 1),
		"a right-to-left mark":  strings.Replace(string(good), "value reason", "value \u202etoor", 1),
		"a zero-width space":    strings.Replace(string(good), "value reason", "value\u200breason", 1),
		"a line separator":      strings.Replace(string(good), "value reason", "value\u2028reason", 1),
		"bytes that aren't UTF": strings.Replace(string(good), "value reason", "value\xff", 1),
		"a number with plus":    strings.Replace(string(good), "epoch: 1", "epoch: +1", 1),
		"a number with zero":    strings.Replace(string(good), "epoch: 1", "epoch: 01", 1),
		"a time with a zone":    strings.Replace(string(good), ":07Z", ":07+00:00", 1),
		"upper-case hex":        strings.Replace(string(good), "fe\n", "FE\n", 1),
		"too long a value":      strings.Replace(string(good), "value reason", strings.Repeat("x", MaxValue+1), 1),
		"too long in all":       string(good) + strings.Repeat("x", MaxSize),
	} {
		if bad == string(good) {
			t.Errorf("%s: the test changed nothing", name)
		}
		if err := Parse([]byte(bad), New(KindRequest)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range [][]string{{"a,b"}, {""}, {" a"}} {
		r := fill(New(KindRequest)).(*Request)
		r.Forwards = bad
		if _, err := Marshal(r); !errors.Is(err, ErrMalformed) {
			t.Errorf("list %q: %v", bad, err)
		}
	}
}

func TestNamespacesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range kinds {
		if seen[k.Namespace()] {
			t.Errorf("%s: namespace twice", k)
		}
		seen[k.Namespace()] = true
	}
}

func FuzzParse(f *testing.F) {
	for _, k := range kinds {
		b, _ := Marshal(fill(New(k)))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := KindOf(data)
		if err != nil {
			return
		}
		s := New(k)
		if s == nil || Parse(data, s) != nil {
			return
		}
		again, err := Marshal(s)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted but written differently: %v\n%q\n%q", err, data, again)
		}
	})
}
