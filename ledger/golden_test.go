package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files that are missing: of a new type, or of one with new fields")

// fill gives every field below v a value that depends on its place, so that a swapped pair shows.
func fill(v reflect.Value, n *int) {
	*n++
	switch p := v.Addr().Interface().(type) {
	case *Time:
		*p = At(time.Date(2026, 11, 24, 3, 0, *n, 123456000, time.UTC))
		return
	case *json.RawMessage:
		*p = json.RawMessage(fmt.Sprintf(`{"n":%d,"text":"<&> ü"}`, *n))
		return
	case *[]byte:
		*p = []byte{byte(*n), 0xff}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Array:
		v.Index(0).SetUint(uint64(*n % 256))
		v.Index(v.Len() - 1).SetUint(0xfe)
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d <&> ü", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("no value for " + v.Type().String())
	}
}

func filled(t Type) *Entry {
	e := &Entry{Facts: newFacts(t)}
	n := 0
	fill(reflect.ValueOf(&e.Time).Elem(), &n)
	fill(reflect.ValueOf(&e.Actor).Elem(), &n)
	fill(reflect.ValueOf(&e.Subject).Elem(), &n)
	fill(reflect.ValueOf(e.Facts).Elem(), &n)
	e.Statement, e.SSHSIG = "breakglass x v1\nline: two\n", "-----BEGIN SSH SIGNATURE-----\n"
	return e
}

func TestGolden(t *testing.T) {
	seen := map[Type]bool{}
	for _, f := range All {
		typ := f.EntryType()
		if seen[typ] {
			t.Errorf("%s is listed twice", typ)
		}
		seen[typ] = true
		e := filled(typ)
		got, err := Encode(e)
		if err != nil {
			t.Fatal(typ, err)
		}
		// A type's files are its history: NAME.json, then NAME.2.json with the fields that were added, and so on. Each is read and written back as
		// it is for ever (fields are added, with omitempty, and never taken away); the newest is what is written now.
		golden := func(n int) string {
			if n == 1 {
				return filepath.Join("testdata", "v1", string(typ)+".json")
			}
			return filepath.Join("testdata", "v1", fmt.Sprintf("%s.%d.json", typ, n))
		}
		read := func(n int) []byte {
			b, err := os.ReadFile(golden(n))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			return bytes.TrimSuffix(b, []byte("\n"))
		}
		n, newest := 0, []byte(nil)
		for b := read(1); b != nil; b = read(n + 1) {
			n, newest = n+1, b
			back, err := Decode(b)
			if err != nil {
				t.Fatal(golden(n), err)
			}
			if again, err := Encode(back); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%s is not written back as it was: %v\n%s", golden(n), err, again)
			}
		}
		if *update && !bytes.Equal(newest, got) {
			if err := os.WriteFile(golden(n+1), append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
			newest = got
		}
		if !bytes.Equal(got, newest) {
			t.Errorf("%s: the format changed; what is in testdata/v1 stands, -update adds the next file\ngot:  %s\nhave: %s", typ, got, newest)
			continue
		}
		back, err := Decode(newest)
		if err != nil {
			t.Fatal(typ, err)
		}
		if !reflect.DeepEqual(back, e) {
			t.Errorf("%s: got %+v, want %+v", typ, back, e)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	b, err := Encode(filled("ca.stopped"))
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for what, bad := range map[string]string{
		"nothing":              "",
		"another version":      strings.Replace(good, `"v":1`, `"v":2`, 1),
		"an unknown type":      strings.Replace(good, `"ca.stopped"`, `"ca.paused"`, 1),
		"an unknown field":     strings.Replace(good, `"v":1`, `"v":1,"x":1`, 1),
		"an unknown fact":      strings.Replace(good, `{"why"`, `{"x":1,"why"`, 1),
		"an unknown subject":   strings.Replace(good, `"subject":{`, `"subject":{"x":1,`, 1),
		"a line feed":          good + "\n",
		"a second entry":       good + good,
		"half an entry":        good[:len(good)/2],
		"a time with a zone":   strings.Replace(good, `123456Z`, `123456+00:00`, 1),
		"a time in seconds":    strings.Replace(good, `.123456Z`, `Z`, 1),
		"more than an entry":   good + strings.Repeat(" ", MaxEntry),
		"no facts":             strings.Replace(good, `"facts"`, `"fakts"`, 1),
		"facts of a wrong typ": strings.Replace(good, `{"why":`, `[{"why":`, 1),
	} {
		if bad == good {
			t.Errorf("%s: the test changed nothing", what)
		}
		if _, err := Decode([]byte(bad)); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", what, err)
		}
	}
	e := filled("policy.adopted")
	e.Facts.(*PolicyAdopted).Text = strings.Repeat("x", MaxEntry)
	if _, err := Encode(e); !errors.Is(err, ErrEntry) {
		t.Errorf("an entry too long for tlog-tiles: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, x := range All {
		b, err := Encode(filled(x.EntryType()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// The audit takes foreign bytes too: it must find a fault, never panic.
		a := NewAudit(AuditConfig{LedgerKey: "x"})
		a.Add(0, data)
		e, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(e)
		if err != nil {
			return // invalid UTF-8 and the like may grow past the limit
		}
		back, err := Decode(again)
		if err != nil || back.Type() != e.Type() || back.Actor != e.Actor {
			t.Fatalf("written and read back as another: %v\n%s\n%s", err, data, again)
		}
	})
}
