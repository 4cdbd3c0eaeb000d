package adopt

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/uploads"
)

// answerTimeout bounds every single question.
const answerTimeout = 5 * time.Second

// uploads checks, before a server joins, that the servers that run already have the same directory of uploaded files.
func (ad *Adoption) uploads(ctx context.Context, server Server) []diagnosis.Finding {
	const check = "uploads"
	dir := server.Variables["WORKER_UPLOADS"]
	if dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	here := uploads.Read(ctx, dir)
	nodes, err := ad.nodes(ctx, server)
	if err != nil {
		return []diagnosis.Finding{diagnosis.Skipped(check, "the other servers are not known: "+err.Error())}
	}
	return []diagnosis.Finding{diagnosis.JudgeUploads(here, nodes)}
}

// nodes asks the first Booster that answers who is alive.
func (ad *Adoption) nodes(ctx context.Context, server Server) (nodes []bus.Node, err error) {
	err = bus.ErrNoBooster
	for _, address := range []string{ad.address(ad.Booster, server, ""), ad.address(ad.Second, server, "SECOND_")} {
		host, port, splitErr := net.SplitHostPort(address)
		if splitErr != nil {
			continue
		}
		number, splitErr := strconv.Atoi(port)
		if splitErr != nil {
			continue
		}
		var c *bus.Client
		if c, err = bus.Dial(bus.ClientConfig{IP: host, Port: number}, "omflow-booster adopt"); err != nil {
			continue
		}
		nodes, err = diagnosis.LivingNodes(ctx, c)
		c.Close()
		if err == nil {
			return nodes, nil
		}
	}
	return nil, err
}
