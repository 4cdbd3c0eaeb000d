package agent

import (
	"sync"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// repairOrders takes the order of an operator to make this server like the others again, and says how it goes.
type repairOrders struct {
	wake chan<- struct{}

	mu     sync.Mutex
	wanted bool
	busy   bool   // there is an order that is not carried out yet
	result string // of the last one; empty while it goes well
}

// addTo answers to the order. Who gave it sees by agent.drift how it goes.
func (o *repairOrders) addTo(group micro.Group, node string) error {
	return group.AddEndpoint(bus.EndpointRepair, micro.HandlerFunc(func(r micro.Request) {
		o.mu.Lock()
		o.wanted, o.busy, o.result = true, true, ""
		o.mu.Unlock()
		wake(o.wake)
		_ = r.Respond(nil)
	}), micro.WithEndpointSubject(bus.EndpointRepair+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// take tells whether there is an order, which is carried out then.
func (o *repairOrders) take() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	wanted := o.wanted
	if wanted {
		o.wanted, o.result = false, ""
	}
	return wanted
}

// postpone tells who has given an order, that is not taken yet, why nothing happens.
func (o *repairOrders) postpone(why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wanted {
		o.result = why
	}
}

func (o *repairOrders) end(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = o.wanted
	if err != nil {
		o.result = err.Error()
	}
}

func (o *repairOrders) describe(d *bus.Drift) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d.Repair, d.Repairing = o.result, o.busy
}

func newRepairOrders(wake chan<- struct{}) (*repairOrders, error) {
	return complete(&repairOrders{wake: wake})
}
