package agent

import (
	"errors"
	"sync"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// How the state of a node that cannot go on begins; what it waits for, or what is wrong, follows.
const (
	stateCurrent  = "current"
	stateApplying = "applying"
	stateWaiting  = "waiting: "
	stateConflict = "conflict: "
	stateFailed   = "failed: "
)

// status is what the heartbeat says of patches. Every part of the agent may write to it.
type status struct {
	news chan struct{} // something for the heartbeat that should not wait

	mu    sync.Mutex
	bare  bool   // there is no OMFLOW Server here yet
	asks  bool   // only a person can end the state
	state string // current, applying, or waiting, conflict, stopped, failed or rolled back: <reason>; empty until the first look
	wants string // the patch that this node waits to fetch
	next  string // the patch that waits for its turn, or has it
}

// newStatus begins with the patch for which an earlier life of the agent had its turn; empty for none.
func newStatus(next string) (*status, error) {
	return complete(&status{news: make(chan struct{}, 1), next: next})
}

// set changes the state.
func (s *status) set(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.asks = state, false
}

// setError makes the state that of a node that cannot go on.
func (s *status) setError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.asks = stateOf(err)+err.Error(), asksPerson(err)
}

// stateOf is how the state of a node that cannot go on begins.
func stateOf(err error) string {
	if errors.Is(err, errOtherHome) {
		return bus.PatchesStopped
	}
	if errors.Is(err, errWitnessBusy) || errors.Is(err, errNoHome) || errors.Is(err, rollout.ErrNoTurn) || asksPerson(err) {
		return stateWaiting
	}
	return stateFailed
}

// asksPerson tells whether waiting alone does not help.
func asksPerson(err error) bool {
	return errors.Is(err, errPlaceless) || errors.Is(err, errNoKey) || errors.Is(err, errGone) || errors.Is(err, errNoSettings) ||
		errors.Is(err, bus.ErrNewer)
}

// setNext tells everybody, at once, which patch waits for its turn.
func (s *status) setNext(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == id {
		return
	}
	if s.next = id; id != "" {
		s.wants = "" // it has that
	}
	wake(s.news)
}

// setWants tells everybody, at once, which patch this node waits to fetch.
func (s *status) setWants(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wants == id {
		return
	}
	s.wants = id
	wake(s.news)
}

// turnOf is the patch that waits for its turn, or has it.
func (s *status) turnOf() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// isBare tells whether there is no OMFLOW Server here yet.
func (s *status) isBare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bare
}

func (s *status) setBare(bare bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bare = bare
}

// describe fills in what the heartbeat says of patches.
func (s *status) describe(state *bus.AgentState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state.PatchState, state.PatchAsks, state.PatchNext, state.PatchWants = s.state, s.asks, s.next, s.wants
	if s.bare {
		state.Server, state.Worker = stateNone, stateNone
	}
}

// wake tells the reader of c that there is something to do, unless it knows already.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
