// Package plugin embeds what omflow-booster needs of the Python package beside it before that is installed.
package plugin

import _ "embed" // for Environment

// Environment is the program that says what a server's settings are: see its first lines.
//
//go:embed omflow_booster/environment.py
var Environment string
