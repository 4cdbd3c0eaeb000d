package broker

import (
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// budget is how much the streams may fill here, and how long a lease lasts.
type budget struct {
	bytes int64
	lease time.Duration
}

func (b budget) layout(replicas int) bus.Layout {
	return bus.Layout{StoreBytes: b.bytes, Replicas: replicas, Lease: b.lease}
}
