package omflowtest_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

func TestProgram(t *testing.T) {
	url := pgtest.New(t)
	t.Setenv("DATABASE_URL", url)
	main := func(args ...string) (int, string) {
		var out bytes.Buffer
		stderr, err := os.Create(t.TempDir() + "/stderr")
		require.NoError(t, err)
		defer func() { require.NoError(t, stderr.Close()) }()
		code := omflowtest.Program{Engines: []sqldb.Engine{sqldb.Postgres()}, Stdout: &out, Stderr: stderr}.Main(args)
		said, err := os.ReadFile(stderr.Name())
		require.NoError(t, err)
		return code, out.String() + string(said)
	}
	for _, step := range []struct {
		command, sql string // sql runs before the command
		code         int
		says         string
	}{
		{command: "setup"},
		{command: "setup"}, // again does no harm
		{command: "count", says: `"accepted":0`},
		{
			command: "count", sql: `INSERT INTO omflowtest_accepted (row_id, ticket, step) VALUES (1, 1, 1)`, code: 1,
			says: "1 accepted steps are lost",
		},
		{command: "env", says: "OMFLOWTEST_CRASH_IN_STEP"},
		{command: "other", code: 2, says: "use setup"},
	} {
		if step.sql != "" {
			pgtest.Exec(t, url, step.sql)
		}
		code, said := main(step.command)
		require.Equal(t, step.code, code, said)
		require.Contains(t, said, step.says)
	}
	t.Setenv("OMFLOWTEST_STEP_MIN", "5ms")
	code, said := main("count")
	require.Equal(t, 2, code)
	require.Contains(t, said, "OMFLOWTEST_STEP_MAX")
}
