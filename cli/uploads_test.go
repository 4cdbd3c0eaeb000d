package cli

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/uploads"
)

// filesOf is a worker that sees these marks in its directory.
func filesOf(name, dir string, marks ...string) bus.Node {
	return workerNode(name, func(s *bus.WorkerState) { s.Server, s.Uploads = name, &uploads.State{Dir: dir, Marks: marks} })
}

func TestUploadsThatAreNotShared(t *testing.T) {
	t.Parallel()
	silent := workerNode("om0", func(*bus.WorkerState) {})
	broken := filesOf("om9", "/opt/uploads")
	broken.Worker.Uploads.Problem = "permission denied"
	for _, c := range []struct {
		name    string
		workers []bus.Node
		want    []string
	}{
		{"nobody tells", []bus.Node{silent}, nil},
		{"one", []bus.Node{filesOf("om1", "/a", "x")}, nil},
		// The one in the middle has seen the new mark and still has the old one.
		{"shared", []bus.Node{filesOf("om1", "/a", "c", "b"), filesOf("om3", "/a", "a"), filesOf("om2", "/b", "b", "a")}, nil},
		{
			"apart",
			[]bus.Node{silent, filesOf("om1", "/a", "x"), filesOf("om2", "/b", "y"), filesOf("om3", "/c", "x")},
			[]string{"uploads_not_shared uploaded files are not in one directory: /b of om2; /a of om1, om3"},
		},
		{
			"unusable",
			[]bus.Node{filesOf("om1", "/a", "x"), broken},
			[]string{"uploads_unusable server om9 cannot use its uploaded files: permission denied"},
		},
	} {
		var got []string
		for _, p := range uploadProblems(statusReport{Workers: c.workers}) {
			require.NotEmpty(t, p.Hint)
			got = append(got, p.Code+" "+p.Text)
		}
		require.Equal(t, c.want, got, c.name)
	}
}

func TestDoctorUploads(t *testing.T) {
	s := newStage(t)
	d := with()
	d.dial = func() (*bus.Client, error) { return bus.Dial(bus.ClientConfig{URL: s.c.NC.ConnectedUrl()}, t.Name()) }
	require.Equal(t, verdictSkip, d.uploads(t.Context(), s.c)[0].Verdict)
	host, err := os.Hostname()
	require.NoError(t, err)
	here := filesOf("om1", "/a", "x")
	here.Host = host
	s.putNode(here)
	require.Equal(t, []string{"ok uploads: one directory: /a of om1"}, lines(d.uploads(t.Context(), s.c)))
	s.putNode(filesOf("om2", "/b", "y"))
	got := lines(d.uploads(t.Context(), s.c))
	require.True(t, strings.HasPrefix(got[0], "fail uploads: /a is not /b of om2 → mount one directory"), got)
	require.Contains(t, lines(d.booster(t.Context())), got[0], "doctor looks")
}

// A server is adopted beside another one that runs already.
func TestAdoptUploads(t *testing.T) {
	s := newStage(t)
	database := pgtest.New(t)
	pgtest.Exec(t, database, `CREATE TABLE omflow_queuedata (id serial PRIMARY KEY)`)
	home := adoptable(t, "X = 1\n", "postgresql", database)
	python := filepath.Join(home, "python")
	script, err := os.ReadFile(python)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(python, []byte(strings.Replace(string(script), `"DATABASE_URL"`,
		`"WORKER_UPLOADS":"`+dir+`","DATABASE_URL"`, 1)), 0o755))
	url := s.c.NC.ConnectedAddr()
	_, _, err = net.SplitHostPort(url)
	require.NoError(t, err)

	code, out := runApp(t, "adopt", home, "--booster", url)
	require.Zero(t, code, out)
	require.Contains(t, out, dir+"; no other server tells")
	s.putNode(filesOf("om1", "/srv/uploads", "x"))
	code, out = runApp(t, "adopt", home, "--booster", url)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, dir+" is not /srv/uploads of om1")
	require.NoError(t, os.WriteFile(filepath.Join(dir, uploads.Marker), []byte("y\nx\n"), 0o600))
	code, out = runApp(t, "adopt", home, "--booster", url)
	require.Zero(t, code, out)
	require.Contains(t, out, "one directory: /srv/uploads of om1")
}
