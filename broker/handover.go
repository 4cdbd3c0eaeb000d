package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// successorTimeout is how long a Booster that is there may take to get the last messages.
const successorTimeout = 3 * time.Second

// handOver gives every leadership of this Booster to the other one, and returns who that is when it is active: before a planned stop, or
// because an operator wants it, so that nobody waits for an election. Nothing is moved when the other one could not lead.
func (t *controller) handOver(ctx context.Context) (successor string, err error) {
	t.placing.Lock() // the controller would take leadership back
	defer t.placing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return t.moveAll(ctx)
}

// moveAll is handOver for who holds placing. It fails only while this Booster still leads: what else was not moved, because
// the other one had it already for example, that one takes itself, and who is told of a failure orders it again, which moves
// everything back.
func (t *controller) moveAll(ctx context.Context) (successor string, err error) {
	c := t.cluster
	v, successor, err := c.findSuccessor(ctx)
	if err != nil {
		return "", err
	}
	// The consumer first, and not for long: one that nobody leads, because somebody removes it, answers nothing, and the rest must move.
	first, stop := context.WithTimeout(ctx, time.Second)
	errs := []error{c.moveLead(first, bus.WorkersStepDown(), successor)}
	stop()
	var moves []string
	for name, s := range v.streams {
		if s.leader == c.name && s.isCurrent(successor) && name != bus.StreamWork {
			moves = append(moves, bus.StreamStepDown(name))
		}
	}
	moves = append(moves, bus.StreamStepDown(bus.StreamWork)) // from here on the other one is active
	if v.metaLeader == c.name {
		moves = append(moves, bus.MetaStepDown)
	}
	for _, subject := range moves {
		errs = append(errs, c.moveLead(ctx, subject, successor))
	}
	for c.leads() && bus.Sleep(ctx, 10*time.Millisecond) {
	}
	if c.leads() {
		return successor, errors.Join(append(errs, fmt.Errorf("%s has not taken over", successor))...)
	}
	if err := errors.Join(errs...); err != nil {
		c.log.Warn().Err(err).Str("active", successor).Msg("handed over, but for what the other Booster has to take itself")
	}
	return successor, nil
}

// findSuccessor looks for the Booster that can lead. One that is there, and has not got the last messages at this moment, is waited for.
func (c *cluster) findSuccessor(ctx context.Context) (v *view, successor string, err error) {
	ctx, cancel := context.WithTimeout(ctx, successorTimeout)
	defer cancel()
	for {
		if v, err = c.look(ctx); err != nil { // leadership moves at this moment, for example
			if bus.Sleep(ctx, 50*time.Millisecond) {
				continue
			}
			return v, "", err
		}
		if !c.leads() {
			return v, "", errors.New("this Booster is not active")
		}
		there := false
		for _, m := range v.streams[bus.StreamWork].members {
			if isWitness(m.Name) || m.Offline {
				continue
			}
			if there = true; m.Current {
				return v, m.Name, nil
			}
		}
		if !there || !bus.Sleep(ctx, 50*time.Millisecond) {
			return v, "", fmt.Errorf("no other Booster is there and holds all of %s", bus.StreamWork)
		}
	}
}
