package agent

import (
	"context"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

const reportTimeout = 10 * time.Second // for a report that is not the last one of its patch

// reporter writes down what became of each patch, and brings it to ROLLOUT.
type reporter struct {
	node   string
	home   *homeDir
	dir    *dataDir
	ledger *ledger
	js     jetstream.JetStream
	log    zerolog.Logger
}

func newReporter(r reporter) (*reporter, error) { return complete(&r) }

// begin makes a report of the home as it is now.
func (r *reporter) begin(a patch.Announcement, state, reason string) patch.Report {
	version := r.home.version()
	now := time.Now()
	return patch.Report{
		Patch: a.ID, Node: r.node, Seq: a.Seq, Created: a.Created, State: state, Error: reason,
		From: version, To: version, Started: now, Finished: now,
	}
}

// settle records the end of a patch, and removes its artifact.
func (r *reporter) settle(end patch.Report) error {
	if err := r.ledger.settle(end); err != nil {
		return err
	}
	_ = os.Remove(r.dir.artifact(end.Patch))
	event := r.log.Info()
	if end.State == patch.StateFailed || end.State == patch.StateRolledBack {
		event = r.log.Error()
	}
	event.Str(logging.Patch, end.Patch).Str("state", end.State).Str("reason", end.Error).Str("from", end.From).Str("to", end.To).
		Int("files", end.Files).Msg("patch dealt with")
	return nil
}

// send brings the news of the ledger to ROLLOUT.
func (r *reporter) send(ctx context.Context) error {
	sent := false
	for _, e := range r.ledger.read().Entries {
		if e.Sent {
			continue
		}
		if err := patch.PutReport(ctx, r.js, e.Report); err != nil {
			return err
		}
		sent = true
	}
	if !sent {
		return nil
	}
	return r.ledger.change(func(p *page) {
		for i := range p.Entries {
			p.Entries[i].Sent = true
		}
	})
}

// mention writes a report that is not final. If it does not arrive, the next one will.
func (r *reporter) mention(a patch.Announcement, state, reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	if err := patch.PutReport(ctx, r.js, r.begin(a, state, reason)); err != nil {
		r.log.Debug().Err(err).Str(logging.Patch, a.ID).Msg("state of a patch not reported")
	}
}
