package omflowtest_test

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest/contract"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

func TestMain(m *testing.M) { contract.Main(m, sqldb.Postgres()) }

func TestContractOnPostgreSQL(t *testing.T) {
	t.Parallel()
	contract.Run(t, sqldb.Postgres(), func(t *testing.T) string { return pgtest.New(t) })
}
