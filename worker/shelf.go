package worker

import (
	"context"
	"sync"
	"time"
)

const (
	paceWindow = 20 * time.Millisecond  // as much is fetched in advance as the slots finish in this time
	shelfLife  = 200 * time.Millisecond // a step that waits longer for a slot is for another worker
	aheadMax   = 512                    // steps in advance
)

// shelf holds the steps that were fetched in advance, for the slots, so that no slot waits for the network.
type shelf struct {
	slots  int
	window time.Duration // see paceWindow

	mu      sync.Mutex
	filled  sync.Cond
	steps   []shelved
	closed  bool
	running int
	pace    time.Duration // moving average of a step's time; 0: none has ended yet
}

type shelved struct {
	d     *delivery
	since time.Time
}

func newShelf(slots int) *shelf {
	s := &shelf{slots: slots, window: paceWindow}
	s.filled.L = &s.mu
	return s
}

// put adds steps.
func (s *shelf) put(steps []*delivery) {
	now := time.Now()
	s.mu.Lock()
	for _, d := range steps {
		s.steps = append(s.steps, shelved{d, now})
	}
	s.mu.Unlock()
	for range min(len(steps), s.slots) {
		s.filled.Signal()
	}
}

// next waits for a step. It returns nil when the shelf is closed and empty.
func (s *shelf) next() *delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.steps) == 0 {
		if s.closed {
			return nil
		}
		s.filled.Wait()
	}
	d := s.steps[0].d
	s.steps[0].d = nil
	s.steps = s.steps[1:]
	s.running++
	return d
}

// done tells how long the step of a slot took. The average follows a longer step at once by half, and shorter ones slowly: what was
// fetched too much waits behind a long step.
func (s *shelf) done(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.observe(took)
}

func (s *shelf) observe(took time.Duration) {
	switch {
	case s.pace == 0:
		s.pace = max(took, 1)
	case took > s.pace:
		s.pace += (took - s.pace) / 2
	default:
		s.pace -= (s.pace - took) / 16
	}
}

// wanted is how many steps should be here or on their way, and how many are here.
func (s *shelf) wanted() (target, here int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ahead := 0
	if s.pace > 0 {
		ahead = int(min(time.Duration(s.slots)*s.window/s.pace, aheadMax))
	}
	return s.slots + ahead, s.running + len(s.steps)
}

// overdue takes the steps that have waited for too long: the slots are busy with longer ones, and another worker may be idle.
func (s *shelf) overdue() (late []*delivery) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.steps) > 0 && now.Sub(s.steps[0].since) > shelfLife {
		late = append(late, s.steps[0].d)
		s.steps = s.steps[1:]
	}
	if len(late) > 0 {
		s.pace = max(s.pace, shelfLife)
	}
	return late
}

// clear takes all steps that were not begun.
func (s *shelf) clear() (all []*delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.steps {
		all = append(all, e.d)
	}
	s.steps = nil
	return all
}

// close ends the slots, each after the step that it runs.
func (s *shelf) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.filled.Broadcast()
}

// idle waits until no step runs and none waits, or ctx ends, and tells which.
func (s *shelf) idle(ctx context.Context) bool {
	for {
		if _, here := s.wanted(); here == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(tendEvery / 10):
		}
	}
}
