package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

const (
	retryMax    = time.Minute
	missingMax  = 5                // tries for an artifact that the store does not have, until a person is asked
	undoneMax   = 3                // tries that stopped the server and had to be taken back: each costs an outage
	reportLimit = 10 * time.Second // for the last report of a try that failed
)

// follower deals with every patch of PATCH, in the order of the stream. It runs in one goroutine.
type follower struct {
	cfg     *Config
	client  *bus.Client
	node    string
	dir     *dataDir
	home    *os.Root
	host    *host
	witness *witness
	journal *patch.Journal
	ledger  *ledger
	trust   *trust
	drift   *drift
	giver   *giver
	mender  *repairer
	placer  *placer
	log     zerolog.Logger

	missing int           // tries in a row that found no artifact
	undone  int           // tries in a row that had to be taken back
	again   time.Duration // until the home is to be read again; 0: not before something happens

	inherited bool // nothing is left to be learnt of patches that came with the home

	hooked string // the patch under way, if its hooks were run in this life

	mu    sync.Mutex
	bare  bool   // there is no OMFLOW Server here yet
	asks  bool   // for the heartbeat: only a person can end the state
	state string // for the heartbeat: current, applying, or waiting, stopped, failed or rolled back: <reason>; empty until the first look
	wants string // for the heartbeat: the patch that it waits to fetch
	next  string // for the heartbeat: the patch that waits for its turn, or has it

	news chan struct{} // something for the heartbeat that should not wait
}

// errGone keeps a node waiting for an artifact that somebody has removed: the patch is as good as ever, and who comes late needs it like the others.
var errGone = errors.New("its artifact is not in the store any more")

const (
	stateWaiting  = "waiting: "  // and what for
	stateConflict = "conflict: " // and of what
)

// run follows the stream until ctx ends. Trouble is tried again for ever, because a later patch may build on this one.
func (f *follower) run(ctx context.Context) {
	nudge, stop := bus.Nudge(f.client.NC, bus.Announcements) // what to do is read from the stream alone
	defer stop()
	pause, said := f.cfg.PatchRetry, ""
	for {
		f.again = 0
		wait := f.cfg.PatchEvery
		switch err := f.round(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			f.setState(f.standing())
			pause, said = f.cfg.PatchRetry, ""
		default:
			f.setState(standingOf(err) + err.Error())
			f.setAsks(asksPerson(err))
			if err.Error() != said {
				said = err.Error()
				f.log.Warn().Err(err).Msg("cannot go on with patches; trying again")
			}
			wait, pause = pause, min(2*pause, retryMax)
		}
		if !f.sleep(ctx, nudge, wait) {
			return
		}
	}
}

// sleep waits for a nudge, for d at most, and not so long if the home is to be read. It tells whether ctx let it.
func (f *follower) sleep(ctx context.Context, nudge <-chan struct{}, d time.Duration) bool {
	if f.again > 0 {
		d = min(d, f.again)
	}
	end := time.Now().Add(d)
	for {
		t := time.NewTimer(time.Until(end))
		select {
		case <-f.drift.moved:
			f.drift.dirty = true
			if rest := time.Now().Add(f.cfg.WatchQuiet); rest.Before(end) {
				end = rest
			}
			t.Stop()
			continue
		case <-ctx.Done():
		case <-nudge:
		case <-f.giver.asked:
		case <-t.C:
		}
		t.Stop()
		return ctx.Err() == nil
	}
}

// round brings to its end what is under way, deals with everything that is announced, and sends the reports that are not sent.
func (f *follower) round(ctx context.Context) error {
	if err := f.recover(ctx); err != nil {
		return err
	}
	if err := f.sameHome(); err != nil {
		return err
	}
	stream, err := f.client.JS.Stream(ctx, bus.StreamPatch)
	if err != nil {
		return fmt.Errorf("open %s: %w", bus.StreamPatch, err)
	}
	if err := f.trust.learn(ctx, f.client.JS); err != nil {
		return err
	}
	if err := f.align(ctx, stream); err != nil {
		return err
	}
	if f.isBare() {
		if err := f.provision(ctx); err != nil {
			return err
		}
	}
	for {
		if err := f.sendReports(ctx); err != nil {
			return err
		}
		f.passNext()
		known := f.ledger.read()
		if err := f.drift.stand(known.Stream, known.Seq); err != nil {
			return err
		}
		a, err := patch.Announcement{}, patch.ErrNoMore
		if known.Seq < stream.CachedInfo().State.LastSeq { // what was announced since then is another round
			a, err = patch.Next(ctx, stream, known.Seq+1)
		}
		none, bad := errors.Is(err, patch.ErrNoMore), errors.Is(err, patch.ErrInvalid)
		switch {
		case err != nil && !none && !bad:
		case !none && known.knows(a.ID):
			err = f.ledger.pass(a.ID, a.Seq)
		case none:
			f.setNext("") // one that was taken back, and is not announced any more
			return f.idle(ctx)
		case bad:
			err = f.fail(a, err)
		default:
			err = f.deal(ctx, a)
		}
		if err != nil {
			return err
		}
	}
}

// idle is what there is to do when every patch is dealt with. An inbox that cannot be read, or a change that cannot be published, keeps nothing
// else waiting.
func (f *follower) idle(ctx context.Context) error {
	impossible := f.trust.possible()
	var inbox error
	if impossible == nil {
		inbox = f.readInbox(ctx)
	}
	if f.mender.take() {
		err := f.repair(ctx)
		f.mender.end(err)
		if err != nil { // and the home may be between two states, until the next round has dealt with that
			return errors.Join(inbox, fmt.Errorf("repair: %w", err))
		}
	}
	drift := f.lookForDrift(ctx)
	f.give(ctx)
	return errors.Join(inbox, drift, impossible)
}

func (f *follower) lookForDrift(ctx context.Context) error {
	_, unsigned := f.trust.signer()
	f.drift.signs = unsigned == nil
	changes, again, err := f.drift.look(ctx)
	if err != nil {
		return err
	}
	f.lookAgain(again)
	if len(changes) == 0 {
		return nil
	}
	return f.publishDrift(ctx, changes)
}

// lookAgain makes the pause after this round no longer than d, unless that is 0.
func (f *follower) lookAgain(d time.Duration) {
	if d > 0 && (f.again == 0 || d < f.again) {
		f.again = d
	}
}

// deal brings one announcement to its end: applied, rolled back, failed or skipped. An error means that it is to be tried again.
func (f *follower) deal(ctx context.Context, a patch.Announcement) error {
	version := patch.HomeVersion(f.home.FS())
	switch fits, err := a.FitsHome(version); {
	case err != nil:
		return f.fail(a, err)
	case !fits:
		return f.skip(a, fmt.Sprintf("it leads to version %s and this server has %s", a.To, version))
	case f.ledger.read().without(a.Undoes):
		return f.skip(a, "it takes back a patch that this server does not have")
	}
	if err := f.trust.possible(); err != nil {
		return err
	}
	f.setState("applying")
	err := f.apply(ctx, a)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, patch.ErrMissing), errors.Is(err, bus.ErrNewer):
		if aborted := f.turn(a).Aborted(ctx); errors.Is(aborted, rollout.ErrAborted) {
			return f.skip(a, aborted.Error())
		}
		if errors.Is(err, bus.ErrNewer) {
			break
		}
		if f.missing++; f.missing >= missingMax {
			err = fmt.Errorf("%w; publish the same file again, or pass the patch over: omflow-booster patch abort %s", errGone, a.ID)
		}
	case errors.Is(err, patch.ErrInvalid):
		return f.fail(a, err)
	case errors.Is(err, rollout.ErrAborted):
		return f.skip(a, err.Error())
	case errors.Is(err, errUndone):
		if f.undone++; f.undone >= undoneMax {
			return f.giveUp(a, err)
		}
	}
	if ctx.Err() == nil {
		r := f.report(a, patch.StateRetrying)
		r.Error = err.Error()
		f.tell(r)
	}
	return fmt.Errorf("patch %s: %w", a.ID, err)
}

// fail settles a patch that can never be applied here; the ones after it get their turn.
func (f *follower) fail(a patch.Announcement, cause error) error {
	r := f.report(a, patch.StateFailed)
	r.Error = cause.Error()
	return f.settle(r)
}

// giveUp settles a patch that was begun and taken back too often: every try takes the server away from its users.
func (f *follower) giveUp(a patch.Announcement, cause error) error {
	r := f.report(a, patch.StateRolledBack)
	r.Error = fmt.Sprintf("%d tries failed, the last one with: %s", undoneMax, cause)
	return f.settle(r)
}

// skip settles a patch that has nothing to bring here.
func (f *follower) skip(a patch.Announcement, reason string) error {
	r := f.report(a, patch.StateSkipped)
	r.Error = reason
	return f.settle(r)
}

// settle records the end of a patch and cleans up after it.
func (f *follower) settle(r patch.Report) error {
	if err := f.ledger.settle(r); err != nil {
		return err
	}
	f.missing, f.undone = 0, 0
	_ = os.Remove(f.dir.artifact(r.Patch))
	event := f.log.Info()
	if r.State == patch.StateFailed || r.State == patch.StateRolledBack {
		event = f.log.Error()
	}
	event.Str(logging.Patch, r.Patch).Str("state", r.State).Str("reason", r.Error).Str("from", r.From).Str("to", r.To).
		Int("files", r.Files).Msg("patch dealt with")
	return nil
}

// report begins a report; the home is as it is now.
func (f *follower) report(a patch.Announcement, state string) patch.Report {
	version := patch.HomeVersion(f.home.FS())
	now := time.Now()
	return patch.Report{
		Patch: a.ID, Node: f.node, Seq: a.Seq, Created: a.Created, State: state, From: version, To: version, Started: now, Finished: now,
	}
}

// sendReports brings the ledger's news to ROLLOUT.
func (f *follower) sendReports(ctx context.Context) error {
	sent := false
	for _, e := range f.ledger.read().Entries {
		if e.Sent {
			continue
		}
		if err := patch.PutReport(ctx, f.client.JS, e.Report); err != nil {
			return err
		}
		sent = true
	}
	if !sent {
		return nil
	}
	return f.ledger.change(func(p *page) {
		for i := range p.Entries {
			p.Entries[i].Sent = true
		}
	})
}

// tell writes a report that is not final. If it does not arrive, the next one will.
func (f *follower) tell(r patch.Report) {
	ctx, cancel := context.WithTimeout(context.Background(), reportLimit)
	defer cancel()
	if err := patch.PutReport(ctx, f.client.JS, r); err != nil {
		f.log.Debug().Err(err).Msg("retry not reported")
	}
}

// standing is the state of a node that has nothing to do.
func (f *follower) standing() string {
	entries := f.ledger.read().Entries
	if len(entries) == 0 {
		return "current"
	}
	switch last := entries[len(entries)-1]; last.State {
	case patch.StateFailed, patch.StateRolledBack:
		return last.State + ": " + last.Error
	default:
		return "current"
	}
}

// standingOf is how the state of a node that cannot go on begins.
func standingOf(err error) string {
	if errors.Is(err, errOtherHome) {
		return bus.PatchesStopped
	}
	if errors.Is(err, errNeeded) || errors.Is(err, errNoHome) || errors.Is(err, rollout.ErrNoTurn) || asksPerson(err) {
		return stateWaiting
	}
	return "failed: "
}

// wake lets whoever reads from c know that there is something to do, unless he knows already.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// setNext tells everybody, at once, which patch waits for its turn.
func (f *follower) setNext(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == id {
		return
	}
	if f.next = id; id != "" {
		f.wants = "" // it has that
	}
	wake(f.news)
}

// setWants tells everybody, at once, which patch it waits to fetch.
func (f *follower) setWants(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wants == id {
		return
	}
	f.wants = id
	wake(f.news)
}

// passNext ends the turn of a patch whose report is sent.
func (f *follower) passNext() {
	f.mu.Lock()
	next := f.next
	f.mu.Unlock()
	if f.ledger.read().knows(next) {
		f.setNext("")
	}
}

func (f *follower) setState(state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.asks = state, false
}

// setAsks says whether only a person can end the state.
func (f *follower) setAsks(asks bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = asks
}

// asksPerson tells whether waiting alone does not help.
func asksPerson(err error) bool {
	return errors.Is(err, errPlaceless) || errors.Is(err, errNoKey) || errors.Is(err, errGone) || errors.Is(err, errNoSettings) ||
		errors.Is(err, bus.ErrNewer)
}

// describe fills in what the heartbeat says of patches.
func (f *follower) describe(state *bus.AgentState) {
	state.HomeVersion = patch.HomeVersion(f.home.FS())
	known := f.ledger.read()
	state.PatchSeq, state.PatchStream = known.Seq, known.Stream.Format(time.RFC3339Nano)
	f.mu.Lock()
	defer f.mu.Unlock()
	state.PatchState, state.PatchAsks, state.PatchNext, state.PatchWants = f.state, f.asks, f.next, f.wants
	if f.bare {
		state.Server, state.Worker = stateNone, stateNone
	}
}
