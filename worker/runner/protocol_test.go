package runner

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"", "hello", "123", "null", `"op"`, "[]", "{}", "{", `{"a":1}`, `{"op":5}`, `{"op":""}`, `{"op":"someday"`,
		`the "op" is "done"`,
	} {
		_, ok, err := decode([]byte(line))
		require.NoError(t, err, line)
		require.False(t, ok, "%q is a print, not a message", line)
	}
	for _, line := range []string{
		`{"op":"done"`, `50%{"op":"done","id":"q1"}`, `{"id": "q1", "n": NaN, "op" : "put"}`,
		`{"op":"done","id":"q1"}{"op":"done","id":"q1"}`,
	} {
		_, _, err := decode([]byte(line))
		require.ErrorContains(t, err, "unreadable message: "+line, "it may be the answer that the worker waits for")
	}
	m, ok, err := decode([]byte(` {"op":"failed","id":"q1","error":"no","permanent":true,"retry_after_ms":5,"recycle":true,"new":1} ` + "\r"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, message{
		Op: "failed", ID: "q1", Recycle: true, failedMessage: failedMessage{Error: "no", Permanent: true, RetryAfterMS: 5},
	}, m)

	m, ok, err = decode([]byte(`{"op":"of the future","id":5}`))
	require.NoError(t, err, "fields of unknown messages are none of our business")
	require.True(t, ok)
	require.Equal(t, message{Op: "of the future"}, m)

	_, ok, err = decode([]byte(`{"op":"done","id":5}`))
	require.True(t, ok)
	require.ErrorContains(t, err, `malformed "done" message`)
	_, _, err = decode([]byte(`{"op":"done","id":"q1","items":[{"row":5},{"name":"x"}]}`))
	require.ErrorContains(t, err, "an item without a row", "nobody answers done, so it would be lost unnoticed")
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	const limit = 100
	exact, long := strings.Repeat("e", limit), strings.Repeat("l", limit+1)
	in := bufio.NewReaderSize(strings.NewReader("a\n\n"+exact+"\n"+long+"\nb\ncut off"), 16)
	for _, want := range []struct {
		line string
		err  error
	}{{"a", nil}, {"", nil}, {exact, nil}, {long, errLineTooLong}, {"b", nil}, {"cut off", io.EOF}, {"", io.EOF}} {
		line, err := readLine(in, limit)
		require.Equal(t, want.err, err)
		require.Equal(t, want.line, string(line))
	}

	endless := bufio.NewReaderSize(io.LimitReader(zeros{}, 1<<20), 16)
	line, err := readLine(endless, limit)
	require.ErrorIs(t, err, errLineTooLong)
	require.LessOrEqual(t, len(line), limit+16, "a line without end must not fill the memory")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
