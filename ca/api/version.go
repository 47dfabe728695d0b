package api

import (
	"fmt"
	"reflect"
	"strconv"
)

// Versions of this interface. Both sides refuse what they don't know (an unknown field too), so neither may say what the other can't have heard of:
//
//   - A client names the newest version that it knows in HeaderVersion. One that names none is of version 1, before there was the header.
//   - The CA serves every version from OldestVersion to its own Version. A field that came with version N has the tag `api:"N"` (and omitempty or
//     omitzero); an answer to an older client leaves it out (Trim).
//   - The CA names its own version in each answer's HeaderVersion. An older one refuses an ask with a member that it doesn't know; a client that
//     didn't use that is understood. Nothing is ever left out of an ask: that would ask for something else.
//   - A client older than OldestVersion (CodeVersion), and one that needs what an older CA doesn't have (client.ErrOlder), are told so, with what to do.
const (
	Version       = 2
	OldestVersion = 1
	HeaderVersion = "Breakglass-Api"
	// CodeVersion (400) says that the client's version is none that this CA serves.
	CodeVersion = "api_version"
)

// ParseVersion reads the header; "" is 1.
func ParseVersion(s string) (int, error) {
	if s == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("%s %q: want a number", HeaderVersion, s)
	}
	return n, nil
}

// Trim gives v without the fields that came after version: a copy where there is one, v itself where there is none.
func Trim(v any, version int) any {
	if v == nil || version >= Version {
		return v
	}
	out, changed := trim(reflect.ValueOf(v), version)
	if !changed {
		return v
	}
	return out.Interface()
}

func trim(v reflect.Value, version int) (reflect.Value, bool) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v, false
		}
		e, changed := trim(v.Elem(), version)
		if !changed {
			return v, false
		}
		if v.Kind() == reflect.Interface {
			return e, true
		}
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(e)
		return p, true
	case reflect.Struct:
		out, changed := v, false
		set := func(i int, f reflect.Value) {
			if !changed {
				changed = true
				out = reflect.New(v.Type()).Elem()
				out.Set(v)
			}
			out.Field(i).Set(f)
		}
		for i := range v.NumField() {
			t := v.Type().Field(i)
			if !t.IsExported() {
				continue
			}
			if since, err := strconv.Atoi(t.Tag.Get("api")); err == nil && since > version {
				if !v.Field(i).IsZero() {
					set(i, reflect.Zero(t.Type))
				}
				continue
			}
			if f, c := trim(v.Field(i), version); c {
				set(i, f)
			}
		}
		return out, changed
	case reflect.Slice:
		out, changed := v, false
		for i := range v.Len() {
			e, c := trim(v.Index(i), version)
			if !c {
				continue
			}
			if !changed {
				changed = true
				out = reflect.MakeSlice(v.Type(), v.Len(), v.Len())
				reflect.Copy(out, v)
			}
			out.Index(i).Set(e)
		}
		return out, changed
	}
	return v, false
}
