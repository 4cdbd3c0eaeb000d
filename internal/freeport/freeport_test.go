package freeport

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTakeGivesEachPortOnceAndNoneInUse(t *testing.T) {
	first, err := Take(t.Context())
	require.NoError(t, err)
	busy, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first+1))
	if err == nil {
		defer func() { _ = busy.Close() }()
	}
	second, err := Take(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	require.NotEqual(t, first+1, second)
}
