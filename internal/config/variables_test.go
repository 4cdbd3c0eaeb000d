package config

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Outer is a configuration as services declare it.
type Outer struct {
	Inner
	Name string        `envconfig:"TEST_NAME" desc:"a name"`
	Wait time.Duration `envconfig:"TEST_WAIT" default:"5s" desc:"a wait"`
}

// Inner is embedded in Outer.
type Inner struct {
	Port int `envconfig:"TEST_PORT" default:"5169" desc:"a port"`
}

func TestVariables(t *testing.T) {
	t.Parallel()
	want := []Variable{{Name: "TEST_PORT", Default: "5169"}, {Name: "TEST_NAME"}, {Name: "TEST_WAIT", Default: "5s"}}
	if got := Variables(&Outer{}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What Table prints to people and what Variables knows must not drift apart.
func TestVariablesAreThoseOfTable(t *testing.T) {
	t.Parallel()
	var printed bytes.Buffer
	if err := Table(&printed, &Outer{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range strings.Split(strings.TrimSpace(printed.String()), "\n")[1:] {
		names = append(names, strings.Fields(line)[0])
	}
	var known []string
	for _, v := range Variables(&Outer{}) {
		known = append(known, v.Name)
	}
	if !reflect.DeepEqual(names, known) {
		t.Errorf("Table prints %v, Variables lists %v", names, known)
	}
}

func TestVariablesOfNoStructPanics(t *testing.T) {
	t.Parallel()
	for _, spec := range []any{nil, Outer{}, new(int)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Variables(%T) did not panic", spec)
				}
			}()
			Variables(spec)
		}()
	}
}
