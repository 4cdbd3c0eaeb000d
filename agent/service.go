package agent

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// addService offers the agent as a NATS micro service (`nats micro ls`). agent.info returns its bus.Node as JSON; every agent
// answers, so one request asks them all.
func addService(nc *nats.Conn, name string, describe func() bus.Node) (stop func(), err error) {
	service, err := micro.AddService(nc, micro.Config{
		Name:        bus.ServiceAgent,
		Version:     bus.ServiceVersion,
		Description: "supervises an OMFLOW Server and applies patches to it",
		Metadata:    map[string]string{"name": name, "version": buildinfo.Version()},
	})
	if err != nil {
		return nil, fmt.Errorf("offer service %s: %w", bus.ServiceAgent, err)
	}
	err = service.AddGroup(bus.ServiceAgent).AddEndpoint("info",
		micro.HandlerFunc(func(r micro.Request) { _ = r.RespondJSON(describe()) }),
		micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		_ = service.Stop()
		return nil, fmt.Errorf("offer %s.info: %w", bus.ServiceAgent, err)
	}
	return func() { _ = service.Stop() }, nil
}
