package jsonkeep

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

type inner struct {
	B int `json:"b"`
}

type document struct {
	A int `json:"a"`
	inner
	In   inner            `json:"in"`
	Many map[string]inner `json:"many"`
	Gone string           `json:"gone,omitempty"`
	at   int
}

// What a newer program has written stays, at any depth; what this one removes goes.
func TestUnknownFieldsAreKept(t *testing.T) {
	t.Parallel()
	const from = `{"a":1,"b":2,"big":12345678901234567890,"in":{"b":3,"new":{"x":null}},
		"many":{"k":{"b":4,"n":[1]},"drop":{"b":5,"n":1}},"gone":"x"}`
	var d document
	require.NoError(t, json.Unmarshal([]byte(from), &d))
	d.A, d.at, d.Gone = 9, 1, ""
	delete(d.Many, "drop")
	d.Many["added"] = inner{6}
	data, err := Marshal(d, []byte(from))
	require.NoError(t, err)
	require.JSONEq(t, `{"a":9,"b":2,"big":12345678901234567890,"in":{"b":3,"new":{"x":null}},"many":{"k":{"b":4,"n":[1]},"added":{"b":6}}}`,
		string(data))
	require.Contains(t, string(data), "12345678901234567890")
	require.NotZero(t, d.at)

	for _, nothing := range []string{"", "no JSON", `[]`, `{"a":5}`} {
		data, err := Marshal(d, []byte(nothing))
		require.NoError(t, err)
		plain, err := json.Marshal(d)
		require.NoError(t, err)
		require.Equal(t, string(plain), string(data))
	}
}
