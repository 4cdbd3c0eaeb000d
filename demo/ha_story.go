package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
)

const (
	haTimeout   = 6 * time.Minute  // for everything together; it takes a third of that
	healTimeout = 60 * time.Second // until everything is as it was before an event
	frozenFor   = 30 * time.Second

	// Writes may pause this long. An election takes 4 to 9 s (NATS waits that long for a leader that is silent), a client of a Booster
	// that is frozen notices that after three pings, and a full stop lasts until a majority has started again.
	plannedLimit = time.Second
	smallLimit   = time.Second // nobody who leads is concerned
	killLimit    = 10 * time.Second
	frozenLimit  = 20 * time.Second
	fullLimit    = 30 * time.Second
)

// playTakeovers shows what two Boosters and a witness survive. It returns the table of the end, and an error if a count or gap is off.
func playTakeovers(ctx context.Context, st *stage, _ options) (shown string, err error) {
	st.out.text(fmt.Sprintf("Two Boosters and a witness, %d OMFLOW Servers, on %s. Tickets are filed at all servers, from the beginning "+
		"to the end.\n\n",
		serverCount, st.db.Engine.Name))
	s := &haStory{stage: st}
	r, err := s.tell(ctx)
	if err != nil {
		return "", err
	}
	return r.table(st.in), r.check()
}

// haStory is what happens to the Boosters, and what was seen of it so far.
type haStory struct {
	*stage
	probe  *omflowtest.Probe
	feed   *fleet.Feed
	events []event
}

// event is one thing that happened, and for how long no write was accepted.
type event struct {
	what  string
	gap   time.Duration
	limit time.Duration
	heal  time.Duration // from its begin until a takeover was possible (again)
}

func (s *haStory) tell(ctx context.Context) (*haResult, error) {
	ctx, cancel := context.WithTimeout(ctx, haTimeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if err := s.healed(ctx, time.Now()); err != nil {
		return nil, err
	}
	s.out.event("witness ready beside %s: every message is stored three times, either Booster can go", s.in.servers[0].name)
	began := time.Now()
	people := &http.Client{Timeout: feedAnswer}
	defer people.CloseIdleConnections()
	s.feed = steadyFeed(ctx, people, s.in, s.db)
	defer s.feed.Stop()
	client, err := bus.Connect(s.in.client(), "probe", zerolog.Nop())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	s.probe = omflowtest.NewProbe(client)
	probing, endProbe := context.WithCancel(ctx)
	probed := make(chan struct{})
	go func() { defer close(probed); s.probe.Run(probing) }()
	defer func() { endProbe(); <-probed }()

	for _, act := range []func(context.Context) error{s.planned, s.killActive, s.killStandby, s.killWitness, s.freezeActive, s.killAll} {
		if err := act(ctx); err != nil {
			return nil, err
		}
	}
	endProbe()
	<-probed
	s.feed.Stop()
	s.out.event("no more tickets are filed")
	if err := s.drained(ctx); err != nil {
		return nil, err
	}
	s.out.event("the last ticket is closed")
	return s.count(ctx, time.Since(began))
}

// planned stops the active Booster as for an update, and starts it again.
func (s *haStory) planned(ctx context.Context) error {
	active, other, err := s.pair(ctx)
	if err != nil {
		return err
	}
	if err := s.suffer(ctx, "planned stop of the active", plannedLimit, func() error {
		s.out.event("SIGTERM to %s, which is active", active.name)
		return active.halt()
	}, s.takenOver(other)); err != nil {
		return err
	}
	return s.comeBack(ctx, active)
}

func (s *haStory) killActive(ctx context.Context) error {
	active, other, err := s.pair(ctx)
	if err != nil {
		return err
	}
	if err := s.suffer(ctx, "kill -9 of the active", killLimit, func() error {
		s.out.event("kill -9 %d: %s, which is active, is gone", active.pid(), active.name)
		return active.kill()
	}, s.takenOver(other)); err != nil {
		return err
	}
	return s.comeBack(ctx, active)
}

func (s *haStory) killStandby(ctx context.Context) error {
	_, standby, err := s.pair(ctx)
	if err != nil {
		return err
	}
	return s.suffer(ctx, "kill -9 of the standby, and its return", smallLimit, func() error {
		s.out.event("kill -9 %d: %s, the standby, is gone", standby.pid(), standby.name)
		if err := standby.kill(); err != nil {
			return err
		}
		standby.again()
		return nil
	}, s.healed)
}

func (s *haStory) killWitness(ctx context.Context) error {
	return s.suffer(ctx, "kill -9 of the witness, and its return", smallLimit, func() error {
		pid, err := s.witness(ctx)
		if err != nil {
			return err
		}
		s.out.event("kill -9 %d: the witness is gone", pid)
		return killProcess(pid)
	}, s.healed)
}

// freezeActive stands in for a host that hangs: everything is there, and nothing moves.
func (s *haStory) freezeActive(ctx context.Context) error {
	active, other, err := s.pair(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.suffer(ctx, fmt.Sprintf("the active stands still for %.0f s", frozenFor.Seconds()), frozenLimit, func() error {
		s.out.event("SIGSTOP to %s, which is active: it stands still", active.name)
		return active.freeze()
	}, s.takenOver(other)); err != nil {
		return err
	}
	if err := pause(ctx, frozenFor-time.Since(began)); err != nil {
		return err
	}
	return s.suffer(ctx, "it wakes up", smallLimit, func() error {
		active.thaw()
		s.out.event("SIGCONT: %s wakes up", active.name)
		return nil
	}, s.healed)
}

// killAll is a power cut of everything but the servers.
func (s *haStory) killAll(ctx context.Context) error {
	return s.suffer(ctx, "kill -9 of Boosters and witness at once", fullLimit, func() error {
		pid, err := s.witness(ctx)
		if err != nil {
			return err
		}
		errs := []error{killProcess(pid)}
		for _, b := range s.in.boosters {
			errs = append(errs, killProcess(b.pid()))
		}
		s.out.event("kill -9: both Boosters and the witness are gone")
		for _, b := range s.in.boosters {
			errs = append(errs, b.halt())
			b.again()
		}
		return errors.Join(errs...)
	}, s.healed)
}

func (s *haStory) comeBack(ctx context.Context, b *booster) error {
	return s.suffer(ctx, "its return", smallLimit, func() error {
		b.again()
		return nil
	}, s.healed)
}

// suffer lets something happen, waits until it is over, and measures for how long no write was accepted.
func (s *haStory) suffer(ctx context.Context, what string, limit time.Duration, act func() error,
	over func(context.Context, time.Time) error,
) error {
	began := time.Now()
	if err := act(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := over(ctx, time.Now()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	e := event{what: what, gap: s.probe.Gap(began), limit: limit, heal: time.Since(began)}
	s.events = append(s.events, e)
	s.out.event("%s: no write accepted for %s", what, seconds(e.gap))
	return nil
}

// takenOver returns when the other Booster is active and a write was accepted.
func (s *haStory) takenOver(successor *booster) func(ctx context.Context, since time.Time) error {
	return func(ctx context.Context, since time.Time) error {
		ctx, cancel := context.WithTimeout(ctx, healTimeout)
		defer cancel()
		return s.until(ctx, "writes to be accepted", func(ctx context.Context) (bool, error) {
			active, err := s.active(ctx, since)
			return err == nil && active.PID == successor.pid() && s.probe.AcceptedSince(since), errors.Join(err, s.probe.Failure())
		})
	}
}

// healed returns when both Boosters and the witness are there, have everything and say so: heartbeats from before since do not count.
func (s *haStory) healed(ctx context.Context, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	return s.until(ctx, "a takeover to be possible", func(ctx context.Context) (bool, error) {
		if s.probe != nil && !s.probe.AcceptedSince(since) {
			return false, s.probe.Failure()
		}
		active, err := s.active(ctx, since)
		if err != nil {
			return false, err
		}
		if active.Booster.Takeover != "ok" {
			return false, errors.New(active.Booster.Takeover)
		}
		boosters, err := s.nodes(ctx, bus.ServiceBooster)
		if err != nil {
			return false, err
		}
		for _, n := range boosters {
			if _, _, err := s.in.pairOf(n); err != nil || n.At.Before(since) {
				return false, errors.Join(fmt.Errorf("%s has not shown itself yet", n.Name), err)
			}
		}
		if len(boosters) < len(s.in.boosters) {
			return false, errors.New("a Booster is missing")
		}
		_, err = s.witnessSince(ctx, since)
		return err == nil, err
	})
}

// active is the heartbeat of the one Booster that leads.
func (s *haStory) active(ctx context.Context, since time.Time) (active bus.Node, err error) {
	boosters, err := s.nodes(ctx, bus.ServiceBooster)
	if err != nil {
		return active, err
	}
	found := 0
	for _, n := range boosters {
		if n.Booster != nil && n.Booster.Duty == bus.DutyActive && n.At.After(since) {
			active, found = n, found+1
		}
	}
	if found != 1 {
		return active, fmt.Errorf("%d Boosters are active", found)
	}
	return active, nil
}

func (s *haStory) pair(ctx context.Context) (active, standby *booster, err error) {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	since := time.Now()
	err = s.until(ctx, "one Booster to be active", func(ctx context.Context) (bool, error) {
		node, err := s.active(ctx, since)
		if err == nil {
			active, standby, err = s.in.pairOf(node)
		}
		return err == nil, err
	})
	return active, standby, err
}

func (s *haStory) witness(ctx context.Context) (pid int, err error) {
	return s.witnessSince(ctx, time.Time{})
}

// witnessSince is the process id of the witness, as its agent has said since some moment.
func (s *haStory) witnessSince(ctx context.Context, since time.Time) (pid int, err error) {
	agents, err := s.nodes(ctx, bus.ServiceAgent)
	if err != nil {
		return 0, err
	}
	for _, n := range agents {
		if n.Agent != nil && n.Agent.WitnessPID != 0 && n.Agent.WitnessState == "running" && n.At.After(since) {
			return n.Agent.WitnessPID, nil
		}
	}
	return 0, errors.New("no agent runs a witness")
}
