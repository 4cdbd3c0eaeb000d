//go:build linux

package test

import (
	"context"
	"net/http"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
)

const (
	filePace = 80 * time.Millisecond  // between two tickets at one server
	slowPace = 400 * time.Millisecond // the same while much is waiting
	much     = 40                     // rows in omflow_queuedata
)

// client asks the web processes of all servers.
var client = &http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true}}

// fileTickets has people file tickets at every server, more slowly while much is waiting, until finish.
func (s *site) fileTickets() {
	ctx, cancel := context.WithCancel(context.Background())
	s.load = fleet.StartFeed(ctx, client, s.webs(), fleet.Pace{
		Every: filePace, Crowded: slowPace,
		Much: func(ctx context.Context) bool {
			waiting, err := s.count(ctx, `SELECT count(*) FROM omflow_queuedata`)
			return err != nil || waiting > much
		},
	})
	s.t.Cleanup(func() { cancel(); s.load.Stop() })
}

// webs are the web processes of all servers.
func (s *site) webs() (all []fleet.Server) {
	for _, srv := range s.servers {
		all = append(all, srv.webServer())
	}
	return all
}

// webServer is the web process of a server, as the demo knows it too.
func (srv *server) webServer() fleet.Server { return fleet.Server{Name: srv.name, URL: srv.url} }
