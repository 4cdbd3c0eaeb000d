package rollout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
)

const (
	decideEvery = time.Second
	notifyFor   = 15 * time.Second // after a turn was given
)

// Coordinator gives nodes their turns. One at a time may run in the whole system.
type Coordinator struct {
	JS      jetstream.JetStream
	Policy  Policy        // of patches that were published without one
	Timeout time.Duration // how long a node may be at a patch
	Log     zerolog.Logger
	// Exclusive says, right before a decision is written, that no other coordinator can be at work.
	Exclusive func() bool

	plans   map[string]Plan // those that somebody may be at, by patch
	members members
	heard   heard
	roster  roster
	trimmer trimmer
	began   time.Time         // when it began to listen to the members
	left    map[string]string // why a plan is left as it is, as it was logged last, by patch
}

// Run decides until ctx ends. What a former coordinator has decided is taken over.
func (c *Coordinator) Run(ctx context.Context) {
	c.plans, c.roster, c.trimmer, c.left = nil, roster{}, trimmer{}, map[string]string{}
	stop, err := c.members.listen(c.JS.Conn())
	if err != nil {
		c.Log.Error().Err(err).Msg("patches are not rolled out from here")
		return
	}
	defer stop()
	c.began = time.Now()
	quiet, err := c.heard.listen(c.JS.Conn())
	if err != nil {
		c.Log.Error().Err(err).Msg("patches are not rolled out from here")
		return
	}
	defer quiet()
	said := ""
	for ok := true; ok; ok = bus.Sleep(ctx, decideEvery) {
		err := c.round(ctx)
		err = errors.Join(err, c.trim(ctx, time.Now(), bus.IsFull(err)))
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			c.Log.Warn().Err(err).Msg("rollout of patches not looked at")
		}
		if err == nil {
			said = ""
		}
	}
}

// round looks at every plan that somebody waits for or is at.
func (c *Coordinator) round(ctx context.Context) error {
	if !c.Exclusive() {
		c.plans, c.roster = nil, roster{}
		return nil
	}
	if c.plans == nil {
		if err := c.load(ctx); err != nil {
			return err
		}
	}
	members := c.members.alive(time.Now())
	if err := c.roster.update(ctx, c.JS, members, time.Now()); err != nil {
		return err
	}
	ids := slices.Collect(maps.Keys(c.plans)) // without any, there is nothing to do
	for _, m := range members {
		for _, id := range []string{m.Next, m.Wants} {
			if id != "" && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		c.heard.clear()
	}
	slices.Sort(ids) // by time of building: nodes that are far behind come first
	for _, id := range ids {
		if err := c.step(ctx, id, members); err != nil {
			return fmt.Errorf("patch %s: %w", id, err)
		}
	}
	return nil
}

// load finds the turns that a former coordinator has given.
func (c *Coordinator) load(ctx context.Context) error {
	ids, err := patches(ctx, c.JS)
	if err != nil {
		return err
	}
	plans := map[string]Plan{}
	for _, id := range ids {
		p, ok, err := Read(ctx, c.JS, id)
		if err != nil && !c.leaves(id, err) {
			return err
		}
		if ok && p.at() > 0 {
			plans[id] = p
		}
	}
	c.plans = plans
	return nil
}

// leaves tells whether a plan that was read with err is left as it is, and logs that once. A plan of a newer program waits for
// the update, and one that cannot be read waits for a person; other patches go on.
func (c *Coordinator) leaves(id string, err error) bool {
	if !errors.Is(err, bus.ErrNewer) && !errors.Is(err, ErrUnreadable) {
		return false
	}
	if text := err.Error(); c.left[id] != text {
		c.left[id] = text
		c.Log.Error().Err(err).Str(logging.Patch, id).Msg("rollout of this patch waits")
	}
	return true
}

// step makes one decision about one patch.
func (c *Coordinator) step(ctx context.Context, id string, members []Member) error {
	p, ok, err := Read(ctx, c.JS, id)
	if c.leaves(id, err) {
		if ok { // who is at it counts
			c.keep(p)
		}
		return nil
	}
	if err != nil {
		return err
	}
	stored := p
	removed := !ok && p.read.revision > 0 // a key that somebody deletes leaves a mark; one that was never written does not
	p = p.orNext(ok, id, c.Policy)
	if removed { // nobody knows any more whether it was approved, paused or aborted
		p.State, p.Reason = StatePaused, "somebody removed its plan from "+bus.BucketRollout
	}
	if p.MaxUnavailable == 0 {
		p = p.under(c.Policy)
	}
	reports, err := c.reports(ctx, p, members)
	if err != nil {
		return err
	}
	others := 0
	for other, q := range c.plans {
		if other != id {
			others += q.at()
		}
	}
	now := time.Now()
	next := decide(p, situation{
		now: now, members: members, away: c.roster.away(members, now), reports: reports, others: others,
		patient: c.Timeout,
	})
	if ok && reflect.DeepEqual(next, stored) {
		c.keep(p)
		c.notify(p)
		return nil
	}
	if !c.Exclusive() {
		return nil
	}
	if err := Write(ctx, c.JS, next); err != nil && !errors.Is(err, ErrChanged) {
		return err // whether it was written, the next round sees
	}
	c.say(p, next)
	c.keep(next)
	c.notify(next)
	return nil
}

// notify tells nodes that it is for them to do something. It is said with each look for a while: one that is lost costs a second.
func (c *Coordinator) notify(p Plan) {
	for node, g := range p.Grants {
		if g.Outcome == "" && time.Since(g.At) < notifyFor {
			_ = c.JS.Conn().Publish(bus.TurnSubject(node), []byte(p.Patch))
		}
	}
	for _, node := range p.Fetch {
		_ = c.JS.Conn().Publish(bus.TurnSubject(node), []byte(p.Patch))
	}
}

// keep remembers a plan as long as somebody is at it.
func (c *Coordinator) keep(p Plan) {
	if p.at() > 0 {
		c.plans[p.Patch] = p
	} else {
		delete(c.plans, p.Patch)
	}
}

// reports reads what nodes say that are at the patch, were given up, or could not begin it.
func (c *Coordinator) reports(ctx context.Context, p Plan, members []Member) (map[string]report, error) {
	ask := map[string]bool{} // true: what it says at this moment
	for node, g := range p.Grants {
		if g.Outcome == "" || g.Outcome == OutcomeGivenUp {
			ask[node] = g.Outcome == ""
		}
	}
	for _, m := range members {
		if _, known := p.Grants[m.Name]; !known && m.Next != p.Patch {
			ask[m.Name] = false
		}
	}
	reports := map[string]report{}
	for node, now := range ask {
		r, there, err := c.heard.read(ctx, c.JS, p.Patch, node, now)
		if err != nil {
			return nil, err
		}
		if there {
			reports[node] = r
		}
	}
	return reports, nil
}

// say logs what was decided.
func (c *Coordinator) say(before, after Plan) {
	log := c.Log.With().Str(logging.Patch, after.Patch).Logger()
	for _, node := range slices.Sorted(maps.Keys(after.Grants)) {
		g, old := after.Grants[node], before.Grants[node]
		switch {
		case g == old:
		case g.Outcome == "":
			log.Info().Str("server", node).Msg("turn to apply the patch given")
		default:
			log.Info().Str("server", node).Str("outcome", g.Outcome).Str("reason", g.Reason).Msg("turn is over")
		}
	}
	if after.State != before.State {
		log.Warn().Str("state", after.State).Str("reason", after.Reason).Msg("rollout changed")
	}
}
