package agent

import (
	"fmt"
	"reflect"
)

// complete returns a part of the agent, or an error that names what its maker has not given to it: no part works with a pointer, an
// interface, a function or a channel that is nil.
func complete[T any](part *T) (*T, error) {
	value := reflect.ValueOf(part).Elem()
	for i := range value.NumField() {
		switch field := value.Field(i); field.Kind() {
		case reflect.Pointer, reflect.Interface, reflect.Func, reflect.Chan:
			if field.IsNil() {
				return nil, fmt.Errorf("agent: %s.%s is not set", value.Type().Name(), value.Type().Field(i).Name)
			}
		default:
		}
	}
	return part, nil
}
