package work

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An item of a newer program is taken, and what this one does not know goes along.
func TestFieldsOfANewerProgramGoAlong(t *testing.T) {
	t.Parallel()
	const plain = `{"row":7,"queue_id":"q","name":"FormFlow","module_name":"m","method_name":"main","input_param":{"a":"<b>"}}`
	it, err := Parse([]byte(strings.Replace(plain, "{", `{"trace":{"id":"<x>"},"deadline":5,`, 1)))
	require.NoError(t, err)
	data, err := it.Lean().Encode()
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(plain, "}")+`,"deadline":5,"trace":{"id":"<x>"}}`, string(data))
	again, err := Parse(data)
	require.NoError(t, err)
	require.Equal(t, it, again)

	known, err := Parse([]byte(strings.Replace(plain, `"name"`, `"Name"`, 1))) // as encoding/json takes it
	require.NoError(t, err)
	require.Nil(t, known.More)
	data, err = known.Encode()
	require.NoError(t, err)
	require.Equal(t, plain, string(data))
	list, err := json.Marshal([]Item{it})
	require.NoError(t, err)
	require.Contains(t, string(list), `"deadline":5`)

	_, err = Parse([]byte(strings.Replace(plain, "{", `{"trace":"`+strings.Repeat("x", 5000)+`",`, 1)))
	require.ErrorIs(t, err, ErrOversized)
}
