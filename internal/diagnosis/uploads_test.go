package diagnosis

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

func TestUploadsThatAreNotShared(t *testing.T) {
	t.Parallel()
	silent := bustest.WorkerNode("om0", func(*bus.WorkerState) {})
	broken := bustest.FilesOf("om9", "/opt/uploads")
	broken.Worker.Uploads.Problem = "permission denied"
	for _, c := range []struct {
		name    string
		workers []bus.Node
		want    []string
	}{
		{"nobody tells", []bus.Node{silent}, nil},
		{"one", []bus.Node{bustest.FilesOf("om1", "/a", "x")}, nil},
		// The one in the middle has seen the new mark and still has the old one.
		{
			"shared",
			[]bus.Node{bustest.FilesOf("om1", "/a", "c", "b"), bustest.FilesOf("om3", "/a", "a"), bustest.FilesOf("om2", "/b", "b", "a")},
			nil,
		},
		{
			"apart",
			[]bus.Node{silent, bustest.FilesOf("om1", "/a", "x"), bustest.FilesOf("om2", "/b", "y"), bustest.FilesOf("om3", "/c", "x")},
			[]string{"uploads_not_shared uploaded files are not in one directory: /b of om2; /a of om1, om3"},
		},
		{
			"unusable",
			[]bus.Node{bustest.FilesOf("om1", "/a", "x"), broken},
			[]string{"uploads_unusable server om9 cannot use its uploaded files: permission denied"},
		},
	} {
		var got []string
		for _, p := range uploadProblems(Report{Workers: c.workers}) {
			require.NotEmpty(t, p.Hint)
			got = append(got, p.Code+" "+p.Text)
		}
		require.Equal(t, c.want, got, c.name)
	}
}
