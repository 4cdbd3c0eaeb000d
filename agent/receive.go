package agent

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

const (
	offerTimeout    = 2 * time.Second  // for the offers of other servers
	transferTimeout = 10 * time.Minute // for one of them to make its artifact
	transferEvery   = time.Second
)

// errNoHome keeps a new server waiting.
var errNoHome = errors.New("OMFLOW_HOME is empty, and no other server offers its files: " +
	"one has to run whose join file signs, with AGENT_PROVISION=on and no drift")

// recipient asks other agents for the files of their servers.
type recipient struct {
	nc *nats.Conn
}

func newRecipient(nc *nats.Conn) (*recipient, error) { return complete(&recipient{nc: nc}) }

// bestOffer asks all agents, and takes the one of use that has the newest patches.
func (r *recipient) bestOffer(ctx context.Context, use func(o bus.HomeOffer) bool) (best bus.HomeOffer, err error) {
	wait, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	err = bus.AskAll(wait, r.nc, bus.HomeSubject, nil, func(answer []byte) bool {
		var o bus.HomeOffer
		if json.Unmarshal(answer, &o) == nil && o.Node != "" && use(o) && (best.Node == "" || o.Seq > best.Seq) {
			best = o
		}
		return false
	})
	if err == nil && best.Node == "" {
		err = errNoHome
	}
	return best, errors.Join(ctx.Err(), err)
}

// transfer asks one agent for its files until they are stored.
func (r *recipient) transfer(
	ctx context.Context, offer bus.HomeOffer, want bus.HomeRequest,
) (a patch.Announcement, t bus.HomeTransfer, err error) {
	question, err := json.Marshal(want)
	if err != nil {
		return a, t, err
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	for {
		reply, err := r.nc.RequestWithContext(ctx, bus.TransferSubject(offer.Node), question)
		if err != nil {
			return a, t, err
		}
		t = bus.HomeTransfer{}
		if err := json.Unmarshal(reply.Data, &t); err != nil {
			return a, t, err
		}
		switch {
		case t.Error != "":
			return a, t, errors.New(t.Error)
		case t.Seq != offer.Seq:
			return a, t, errors.New("it has been patched meanwhile")
		case len(t.Artifact) > 0:
			if err := json.Unmarshal(t.Artifact, &a); err != nil {
				return a, t, err
			}
			return a, t, a.Check()
		}
		if !bus.Sleep(ctx, transferEvery) {
			return a, t, ctx.Err()
		}
	}
}
