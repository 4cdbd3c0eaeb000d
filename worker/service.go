package worker

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// serve offers submit on the bus, so that commands and other programs reach a worker from anywhere. Requests are items as in
// POST /v1/items; answers and error codes are the same.
func (w *Worker) serve() (stop func(), err error) {
	service, err := micro.AddService(w.client.NC, micro.Config{
		Name: bus.ServiceWorker, Version: bus.ServiceVersion, Description: "takes work and runs it beside an OMFLOW Server",
		Metadata: map[string]string{"name": w.cfg.Name, "version": buildinfo.Version()},
	})
	if err != nil {
		return nil, fmt.Errorf("offer service %s: %w", bus.ServiceWorker, err)
	}
	var requests sync.WaitGroup
	slots := make(chan struct{}, maxSubmits)
	handle := func(req micro.Request) {
		slots <- struct{}{} // a full house delays the next request; its sender has a timeout
		requests.Go(func() {
			defer func() { <-slots }()
			w.submitRequest(req)
		})
	}
	if err := service.AddEndpoint("submit", micro.HandlerFunc(handle), micro.WithEndpointSubject(bus.SubjectSubmit)); err != nil {
		_ = service.Stop()
		return nil, fmt.Errorf("offer %s: %w", bus.SubjectSubmit, err)
	}
	if err := w.client.NC.FlushTimeout(ackTimeout); err != nil { // the Booster knows of it when we say that we are ready
		w.log.Warn().Err(err).Msg("service " + bus.ServiceWorker + " not announced")
	}
	return func() {
		_ = service.Stop()
		requests.Wait()
	}, nil
}

func (w *Worker) submitRequest(req micro.Request) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*publishTimeout)
	defer cancel()
	reply, status, err := w.publisher.take(ctx, bytes.NewReader(req.Data()))
	if err == nil && status != http.StatusServiceUnavailable {
		_ = req.RespondJSON(reply)
		return
	}
	if err == nil {
		err = fmt.Errorf("%w: the rows are safe and wait in the database", ErrUnavailable)
	}
	_ = req.Error(strconv.Itoa(statusOf(err)), bus.HeaderText(err.Error()), nil)
}
