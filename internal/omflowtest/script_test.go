package omflowtest

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScriptHasTheRecordedSteps(t *testing.T) {
	t.Parallel()
	s := Recorded()
	require.Equal(t, 500, s.Len())
	seen := map[string]bool{}
	for ticket := int64(1); ticket <= 1100; ticket++ { // more than twice around
		for step := 1; step <= Steps; step++ {
			it := s.Item(ticket, step)
			require.NoError(t, it.Check())
			require.False(t, seen[it.QueueID], it.QueueID)
			seen[it.QueueID] = true
			gotTicket, gotStep, err := s.Locate(it)
			require.NoError(t, err)
			require.Equal(t, ticket, gotTicket)
			require.Equal(t, step, gotStep)
		}
	}
	it := s.Item(1, 1)
	it.InputParam = []byte(`{"data_no": 1, "chart_id_from": "FITEM_1"}`)
	_, _, err := s.Locate(it)
	require.ErrorContains(t, err, "not one of the script")
}

func TestScriptRefusesWhatIsNoRecording(t *testing.T) {
	t.Parallel()
	packed := func(text string) []byte {
		var buf bytes.Buffer
		zw := gzip.NewWriter(&buf)
		_, err := zw.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, zw.Close())
		return buf.Bytes()
	}
	for text, says := range map[string]string{
		`{}`: "malformed item",
		`{"queue_id":"a","name":"n","module_name":"m","method_name":"f","input_param":{"data_no":1}}`: "has 1 queue items",
	} {
		_, err := readScript(packed(text))
		require.ErrorContains(t, err, says)
	}
	_, err := readScript([]byte("no gzip"))
	require.Error(t, err)
}
