package main

import (
	"errors"
	"path/filepath"
	"strconv"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// settings that only a demo wants.
var boosterHaste = []string{
	"BOOSTER_LEASE=4s", // after which the steps of the killed worker come again
	"BOOSTER_STORE_MB=512",
}

// booster is one Booster; its process is nil until it was started once.
type booster struct {
	*process
	name        string
	port        int
	clusterPort int
}

// startBoosters starts all of them.
func (in *installation) startBoosters() (err error) {
	for i, b := range in.boosters {
		env := append([]string{
			"BOOSTER_IP=127.0.0.1", "BOOSTER_PORT=" + strconv.Itoa(b.port), "BOOSTER_NAME=" + b.name,
			"BOOSTER_DATA_DIR=" + filepath.Join(in.dir, b.name),
		}, boosterHaste...)
		if len(in.boosters) == 2 {
			other := in.boosters[1-i]
			env = append(env, "BOOSTER_CLUSTER_PORT="+strconv.Itoa(b.clusterPort),
				"HA_BOOSTER_IP=127.0.0.1", "HA_BOOSTER_PORT="+strconv.Itoa(other.port), "HA_BOOSTER_CLUSTER_PORT="+strconv.Itoa(other.clusterPort))
		}
		if b.process, err = start(b.name, in.logs(), environment(env...), "broker"); err != nil {
			return err
		}
	}
	return nil
}

// client is how everybody reaches the Boosters.
func (in *installation) client() bus.ClientConfig {
	c := bus.ClientConfig{IP: "127.0.0.1", Port: in.boosters[0].port}
	if len(in.boosters) == 2 {
		c.SecondIP, c.SecondPort = "127.0.0.1", in.boosters[1].port
	}
	return c
}

// address is the same as environment variables.
func (in *installation) address() []string {
	c := in.client()
	vars := []string{"BOOSTER_IP=" + c.IP, "BOOSTER_PORT=" + strconv.Itoa(c.Port)}
	if c.SecondIP != "" {
		vars = append(vars, "SECOND_BOOSTER_IP="+c.SecondIP, "SECOND_BOOSTER_PORT="+strconv.Itoa(c.SecondPort))
	}
	return vars
}

// url is where the Boosters are, for the nats command line.
func (in *installation) url() string { return in.client().URLs() }

// pairOf tells the active Booster and the standby apart, by the process id that the active one says it has.
func (in *installation) pairOf(active bus.Node) (leads, follows *booster, err error) {
	for i, b := range in.boosters {
		if b.pid() == active.PID {
			return b, in.boosters[1-i], nil
		}
	}
	return nil, nil, errors.New(active.Name + " is none of the Boosters here")
}
