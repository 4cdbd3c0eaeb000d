package config

import (
	"fmt"
	"reflect"
)

// Variable is one environment variable that a service knows.
type Variable struct {
	Name    string
	Default string
	Form    string // of the value: empty, or formCommand
}

// Variables lists the variables of the struct that spec points to, in the order of its fields, embedded structs included.
// It panics if spec is not such a pointer: that is a mistake in the program.
func Variables(spec any) []Variable {
	t := reflect.TypeOf(spec)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config.Variables wants a pointer to a struct, not %T", spec))
	}
	return variables(t.Elem())
}

func variables(t reflect.Type) []Variable {
	var list []Variable
	for i := range t.NumField() {
		field := t.Field(i)
		name := field.Tag.Get("envconfig")
		switch {
		case name != "":
			list = append(list, Variable{Name: name, Default: field.Tag.Get("default"), Form: field.Tag.Get("form")})
		case field.Anonymous && field.Type.Kind() == reflect.Struct:
			list = append(list, variables(field.Type)...)
		}
	}
	return list
}
