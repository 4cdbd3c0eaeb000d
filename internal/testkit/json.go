package testkit

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// SameJSON reads a document with every field of T set, and requires that T writes the same bytes again.
func SameJSON[T any](t *testing.T, document string) {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader([]byte(document)))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&v))
	again, err := json.Marshal(v)
	require.NoError(t, err)
	require.Equal(t, document, string(again))
}
