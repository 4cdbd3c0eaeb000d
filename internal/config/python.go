package config

// OMFLOWPython is embedded by the services that run something with the Python of the OMFLOW Server.
type OMFLOWPython struct {
	Python string `envconfig:"OMFLOW_PYTHON" default:"python3" desc:"Python of the OMFLOW Server"`
}
