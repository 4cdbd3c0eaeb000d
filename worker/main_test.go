package worker_test

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
