package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// leaveTimeout is how long a Booster that has left stays to vote at most: without a witness the other one copies nothing
// without it. Mostly the other one ends its server, and with it the connection, long before.
const leaveTimeout = 30 * time.Minute

// departure is how this Booster leaves its cluster, by order of the other one.
type departure struct {
	cluster *cluster
	store   *store
	ordered chan string // the name of the Booster that goes on alone, see shrink.go
}

func newDeparture(c *cluster, s *store, ordered chan string) *departure {
	return &departure{cluster: c, store: s, ordered: ordered}
}

// left tells whether this Booster has left.
func (d *departure) left() bool { return d.store.bootState().Left != "" }

// answer notes that this Booster has left, before it tells the other one: from then on it will not start again with this store.
func (d *departure) answer(req micro.Request) {
	other := strings.TrimSpace(string(req.Data()))
	err := d.store.change(func(m *bootState) {
		m.Left = fmt.Sprintf("%s, when %s went on alone", time.Now().UTC().Format(time.DateTime), other)
	})
	if err != nil {
		_ = req.Error("500", bus.HeaderText(err.Error()), nil)
		return
	}
	respond(req, struct{}{})
	_ = d.cluster.node.nc.Flush()
	select {
	case d.ordered <- other:
	default: // told so twice
	}
}

// leave serves nobody any more, and stays only for its vote, until the other one has everything.
func (d *departure) leave(ctx context.Context, other string) error {
	d.cluster.log.Warn().Str("alone", other).
		Msg("this Booster has left the cluster by order of an operator; empty its data directory to use it again")
	opts := d.cluster.node.opts.Clone()
	opts.MaxConn = -1
	if err := d.cluster.node.server.ReloadOptions(opts); err != nil {
		return fmt.Errorf("close the doors: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	for {
		routes, err := d.cluster.node.server.Routez(&server.RoutezOptions{})
		if err != nil || !slices.ContainsFunc(routes.Routes, func(r *server.RouteInfo) bool { return r.RemoteName == other }) {
			return nil
		}
		if !bus.Sleep(ctx, 100*time.Millisecond) {
			return nil
		}
	}
}

// tellToLeave tells the other Booster that this one goes on alone.
func (c *cluster) tellToLeave(ctx context.Context, other string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	for {
		reply, err := c.node.nc.RequestWithContext(ctx, bus.LeaveSubject(other), []byte(c.name))
		if err == nil && reply.Header.Get(micro.ErrorHeader) != "" {
			err = errors.New(reply.Header.Get(micro.ErrorHeader))
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, nats.ErrNoResponders) || !bus.Sleep(ctx, 200*time.Millisecond) { // it may not know yet that we are there
			return fmt.Errorf("tell %s to leave: %w; nothing was changed here", other, err)
		}
	}
}
