package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// refuseClone makes sure that the other Booster is another one. A machine that was cloned with its data directory has the same name, and
// members of a cluster are known by name: the two would take each other's votes.
func refuseClone(ctx context.Context, network Network, name string) error {
	other := hostPort(network.HAIP, network.HAPort)
	nc, err := nats.Connect("nats://"+other, nats.Timeout(2*time.Second), nats.MaxReconnects(0), nats.IgnoreDiscoveredServers())
	if err != nil {
		return nil // not there yet: any order of starting is fine, and it will look in its turn
	}
	defer nc.Close()
	if ctx.Err() == nil && nc.ConnectedServerName() == name {
		return &config.Error{
			Var:     "BOOSTER_DATA_DIR",
			Problem: fmt.Sprintf("the other Booster at %s has the same name %q: this machine is a copy of it", other, name),
			Fix:     "empty the data directory of the copy",
		}
	}
	return nil
}
