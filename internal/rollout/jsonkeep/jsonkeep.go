// Package jsonkeep rewrites a JSON document of which this program may not know every field: a newer program, beside this one
// during an upgrade, may have written it.
package jsonkeep

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// Marshal is json.Marshal of v, with all fields of the document that it was read from for which the type of v has no name, at
// any depth. Entries of maps are not fields: one that is not in v was removed from it.
func Marshal(v any, from []byte) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil || len(from) == 0 {
		return data, err
	}
	was, is := decode(from), decode(data)
	if !keep(reflect.TypeOf(v), was, is) {
		return data, nil
	}
	return json.Marshal(is)
}

// decode reads any document; numbers stay as they are written.
func decode(data []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	_ = d.Decode(&v) // what is no JSON has nothing to be kept
	return v
}

// keep adds to is what was has and t does not know, and tells whether there was anything.
func keep(t reflect.Type, was, is any) (added bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	before, ok1 := was.(map[string]any)
	now, ok2 := is.(map[string]any)
	if !ok1 || !ok2 {
		return false
	}
	switch t.Kind() {
	case reflect.Struct:
		known := map[string]reflect.Type{}
		fields(t, known)
		for name, value := range before {
			field, named := known[name]
			if !named {
				now[name], added = value, true
			} else if keep(field, value, now[name]) {
				added = true
			}
		}
	case reflect.Map:
		for name, value := range before {
			if there, ok := now[name]; ok && keep(t.Elem(), value, there) {
				added = true
			}
		}
	}
	return added
}

// fields are the names under which encoding/json writes a struct.
func fields(t reflect.Type, known map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			fields(f.Type, known)
		case !f.IsExported() || f.Tag.Get("json") == "-":
		case name == "":
			known[f.Name] = f.Type
		default:
			known[name] = f.Type
		}
	}
}
