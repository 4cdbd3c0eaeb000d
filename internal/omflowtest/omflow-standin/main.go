// Command omflow-standin is a stand-in OMFLOW Server for tests over real processes; see package omflowtest.
package main

import (
	"os"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

func main() {
	os.Exit(omflowtest.Program{
		Engines: []sqldb.Engine{sqldb.Postgres()},
		Exit:    os.Exit, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}.Main(os.Args[1:]))
}
