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

// tellToLeave tells the other Booster that this one goes on alone.
func (b *Broker) tellToLeave(ctx context.Context, other string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	for {
		reply, err := b.nc.RequestWithContext(ctx, bus.LeaveSubject(other), []byte(b.name()))
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

// answerLeave notes that this Booster has left, before it tells the other one: from then on it will not start again with this store.
func (b *Broker) answerLeave(req micro.Request) {
	other := strings.TrimSpace(string(req.Data()))
	err := b.store.change(func(m *bootState) {
		m.Left = fmt.Sprintf("%s, when %s went on alone", time.Now().UTC().Format(time.DateTime), other)
	})
	if err != nil {
		_ = req.Error("500", bus.HeaderText(err.Error()), nil)
		return
	}
	respond(req, struct{}{})
	_ = b.nc.Flush()
	select {
	case b.leaving <- other:
	default: // told so twice
	}
}

// leave serves nobody any more, and stays only for its vote, until the other one has everything.
func (b *Broker) leave(ctx context.Context, other string) error {
	b.log.Warn().Str("alone", other).Msg("this Booster has left the cluster by order of an operator; empty its data directory to use it again")
	opts := b.opts.Clone()
	opts.MaxConn = -1
	if err := b.server.ReloadOptions(opts); err != nil {
		return fmt.Errorf("close the doors: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	for {
		routes, err := b.server.Routez(&server.RoutezOptions{})
		if err != nil || !slices.ContainsFunc(routes.Routes, func(r *server.RouteInfo) bool { return r.RemoteName == other }) {
			return nil
		}
		if !bus.Sleep(ctx, 100*time.Millisecond) {
			return nil
		}
	}
}
