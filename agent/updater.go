package agent

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

const retryMax = time.Minute // between two rounds that fail

// updater walks the patches of PATCH in the order of the stream. It runs in one goroutine, and so does everything that it calls.
type updater struct {
	cfg       *Config
	nc        *nats.Conn
	ledger    *ledger
	status    *status
	pauses    *pauses
	preparer  preparer
	baselines stander
	dealer    dealer
	chores    chore
	reports   sender
	log       zerolog.Logger
}

// What the updater needs of others.
type (
	preparer interface {
		prepare(ctx context.Context) (jetstream.Stream, error) // does what comes before the patches, and opens PATCH
	}
	stander interface {
		stand(stream time.Time, seq uint64) error // remembers which baseline belongs to a place in the stream
	}
	dealer interface {
		deal(ctx context.Context, a patch.Announcement) error // brings one announcement to its end
		refuse(a patch.Announcement, cause error) error       // settles one that can never be applied
	}
	chore interface {
		run(ctx context.Context) (again time.Duration, err error) // does what there is to do when every patch is dealt with
	}
	sender interface {
		send(ctx context.Context) error // brings the news of the ledger to ROLLOUT
	}
)

func newUpdater(u updater) (*updater, error) { return complete(&u) }

// run follows the stream until ctx ends. Trouble is tried again for ever, because a later patch may build on this one.
func (u *updater) run(ctx context.Context) {
	notify, stop := bus.Notify(u.nc, bus.Announcements) // what to do is read from the stream alone
	defer stop()
	pause, said := u.cfg.PatchRetry, ""
	for {
		wait := u.cfg.PatchEvery
		again, err := u.round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			u.status.set(u.ledger.read().standing())
			pause, said = u.cfg.PatchRetry, ""
		default:
			u.status.setError(err)
			if err.Error() != said {
				said = err.Error()
				u.log.Warn().Err(err).Msg("cannot go on with patches; trying again")
			}
			wait, pause = pause, min(2*pause, retryMax)
		}
		if !u.pauses.wait(ctx, notify, wait, again) {
			return
		}
	}
}

// round brings to its end what is under way, deals with everything that is announced, and sends the reports that are not sent. again
// says when the home is to be read again; 0: not before something happens.
func (u *updater) round(ctx context.Context) (again time.Duration, err error) {
	stream, err := u.preparer.prepare(ctx)
	if err != nil {
		return 0, err
	}
	for {
		if err := u.reports.send(ctx); err != nil {
			return 0, err
		}
		known := u.ledger.read()
		if known.knows(u.status.turnOf()) { // its report is sent: the next node may begin
			u.status.setNext("")
		}
		if err := u.baselines.stand(known.Stream, known.Seq); err != nil {
			return 0, err
		}
		a, err := patch.Announcement{}, patch.ErrNoMore
		if known.Seq < stream.CachedInfo().State.LastSeq { // what was announced since then is another round
			a, err = patch.Next(ctx, stream, known.Seq+1)
		}
		none, bad := errors.Is(err, patch.ErrNoMore), errors.Is(err, patch.ErrInvalid)
		switch {
		case err != nil && !none && !bad:
		case !none && known.knows(a.ID):
			err = u.ledger.pass(a.ID, a.Seq)
		case none:
			u.status.setNext("") // one that was rolled back, and is not announced any more
			return u.chores.run(ctx)
		case bad:
			err = u.dealer.refuse(a, err)
		default:
			err = u.dealer.deal(ctx, a)
		}
		if err != nil {
			return 0, err
		}
	}
}
