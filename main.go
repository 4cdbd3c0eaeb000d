// Command omflow-booster spreads the queued steps of OMFLOW forms over many OMFLOW Servers.
package main

import (
	"os"

	"github.com/omflow-booster/omflow-booster/cli"
	"github.com/omflow-booster/omflow-booster/internal/firstprocess"
)

func main() {
	if code, was := firstprocess.Run(); was {
		os.Exit(code)
	}
	os.Exit(cli.Product().Main(os.Args[1:]))
}
