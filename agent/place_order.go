package agent

import (
	"encoding/json"
	"sync"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// placeOrders takes the order of an operator who knows which patches this server has, and answers others who have lost their place.
type placeOrders struct {
	baseline placeKeeper
	wake     chan<- struct{}

	mu     sync.Mutex
	asking bool   // an order is waited for
	order  string // empty: none
}

// placeKeeper remembers the places of the home.
type placeKeeper interface {
	stood(digest string) (treePlace, bool) // the last place at which this home had the files of that digest
}

func newPlaceOrders(baseline placeKeeper, wake chan<- struct{}) (*placeOrders, error) {
	return complete(&placeOrders{baseline: baseline, wake: wake})
}

// addTo answers those who ask who has had their files, and takes the order.
func (p *placeOrders) addTo(group micro.Group, node string) error {
	err := group.AddEndpoint(bus.EndpointPlace, micro.HandlerFunc(func(r micro.Request) {
		var asked bus.Place
		if json.Unmarshal(r.Data(), &asked) != nil {
			return
		}
		if at, ok := p.baseline.stood(asked.Baseline); ok {
			_ = r.RespondJSON(bus.Place{Node: node, Stream: at.Stream, Seq: at.Seq, Baseline: at.Digest})
		}
	}), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return err
	}
	return group.AddEndpoint(bus.EndpointPlaceBy, micro.HandlerFunc(func(r micro.Request) {
		var o bus.PlaceOrder
		var answer bus.PlaceAnswer
		if err := json.Unmarshal(r.Data(), &o); err != nil {
			answer.Error = err.Error()
		} else if !p.accept(o.After) {
			answer.Error = "it knows which patches it has"
		}
		_ = r.RespondJSON(answer)
	}), micro.WithEndpointSubject(bus.EndpointPlaceBy+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

func (p *placeOrders) accept(order string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asking || order == "" {
		return false
	}
	p.order = order
	wake(p.wake)
	return true
}

// take returns the order, and says whether one is waited for from now on.
func (p *placeOrders) take(asking bool) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	order := p.order
	p.asking, p.order = asking, ""
	return order
}
