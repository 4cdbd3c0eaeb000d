package process

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTailIsBounded(t *testing.T) {
	t.Parallel()
	var tail Tail
	require.Empty(t, tail.Lines())
	for range TailLines + 3 {
		tail.Add(strings.Repeat("界", TailWidth))
	}
	text := strings.Join(tail.Lines(), "")
	require.Len(t, tail.Lines(), TailLines)
	require.LessOrEqual(t, len(text), (TailLines+1)*(TailWidth+10))
	require.NotContains(t, text, "\ufffd")
	tail.Reset()
	require.Empty(t, tail.Lines())
}
