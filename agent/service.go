package agent

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// endpoints are questions and orders that a part of the agent answers for itself.
type endpoints interface {
	addTo(group micro.Group, node string) error
}

// addService offers the agent as a NATS micro service (`nats micro ls`). agent.info returns its bus.Node as JSON, agent.drift
// its bus.Drift; every agent answers, so one request asks them all.
func addService(nc *nats.Conn, name string, describe func() bus.Node, drift func() bus.Drift, more ...endpoints) (stop func(), err error) {
	service, err := micro.AddService(nc, micro.Config{
		Name:        bus.ServiceAgent,
		Version:     bus.ServiceVersion,
		Description: "supervises an OMFLOW Server and applies patches to it",
		Metadata:    map[string]string{"name": name, "version": buildinfo.Version()},
	})
	if err != nil {
		return nil, fmt.Errorf("offer service %s: %w", bus.ServiceAgent, err)
	}
	group := service.AddGroup(bus.ServiceAgent)
	for _, e := range more {
		if err := e.addTo(group, name); err != nil {
			_ = service.Stop()
			return nil, fmt.Errorf("offer %s: %w", bus.ServiceAgent, err)
		}
	}
	for endpoint, answer := range map[string]func() any{
		"info":            func() any { return describe() },
		bus.EndpointDrift: func() any { return drift() },
	} {
		err = group.AddEndpoint(endpoint,
			micro.HandlerFunc(func(r micro.Request) { _ = r.RespondJSON(answer()) }),
			micro.WithEndpointQueueGroupDisabled())
		if err != nil {
			_ = service.Stop()
			return nil, fmt.Errorf("offer %s.%s: %w", bus.ServiceAgent, endpoint, err)
		}
	}
	return func() { _ = service.Stop() }, nil
}
