package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/uploads"
)

func TestDoctorUploads(t *testing.T) {
	s := newStage(t)
	dial := func() (*bus.Client, error) { return bus.Dial(bus.ClientConfig{URL: s.c.NC.ConnectedUrl()}, t.Name()) }
	found := func() (list []string) {
		for _, f := range diagnosis.Booster(t.Context(), dial) {
			if f.Check == "uploads" {
				list = append(list, fmt.Sprintf("%s %s → %s", f.Verdict, f.Detail, f.Fix))
			}
		}
		return list
	}
	require.Equal(t, []string{"skip no worker on this host that knows where the uploaded files are → "}, found())
	host, err := os.Hostname()
	require.NoError(t, err)
	here := bustest.FilesOf("om1", "/a", "x")
	here.Host = host
	s.putNode(here)
	require.Equal(t, []string{"ok one directory: /a of om1 → "}, found())
	s.putNode(bustest.FilesOf("om2", "/b", "y"))
	got := found()
	require.Len(t, got, 1)
	require.True(t, strings.HasPrefix(got[0], "fail /a is not /b of om2 → mount one directory"), got)
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
	s.putNode(bustest.FilesOf("om1", "/srv/uploads", "x"))
	code, out = runApp(t, "adopt", home, "--booster", url)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, dir+" is not /srv/uploads of om1")
	require.NoError(t, os.WriteFile(filepath.Join(dir, uploads.Marker), []byte("y\nx\n"), 0o600))
	code, out = runApp(t, "adopt", home, "--booster", url)
	require.Zero(t, code, out)
	require.Contains(t, out, "one directory: /srv/uploads of om1")
}
