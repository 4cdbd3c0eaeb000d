package omflowtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

const (
	probeEvery   = 50 * time.Millisecond // unless Pace says otherwise
	probeTimeout = 5 * time.Second       // of one write: at most a hundred are under way
)

// Probe writes to WORK all the time, a new message each 50 ms, or what Pace says, whatever became of those before, and notes
// when a write was acknowledged. It shows for how long nobody who hands over work gets it accepted.
//
// Its messages are steps whose rows are not there, so a worker that gets one has nothing to do, and counts of effects do not
// change. Such a step is in no table either: an acknowledged one that is lost stays lost, which makes them a better witness than
// steps of tickets.
type Probe struct {
	js    jetstream.JetStream
	first int64 // row of the first message
	pace  chan time.Duration

	mu       sync.Mutex
	acks     []time.Time
	accepted map[uint64]string // subject by sequence in WORK
	twice    error
	failed   error // the last write that was not acknowledged
}

// NewProbe makes a probe that writes through a connection of its own kind: what is measured includes how the client finds the
// other Booster.
func NewProbe(client *bus.Client) *Probe {
	const rows, used = 1_900_000_000, 200_000_000 // the column has 32 bits; no ticket gets there
	first := rows + rand.Int64N(used)             //nolint:gosec // two probes on one bus should not meet; nothing is secret
	return &Probe{js: client.JS, first: first, pace: make(chan time.Duration), accepted: map[uint64]string{}}
}

// Pace changes the time between two writes of a probe that runs.
func (p *Probe) Pace(every time.Duration) { p.pace <- every }

// Run writes until ctx ends, and then waits for the writes under way.
func (p *Probe) Run(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var writes sync.WaitGroup
	defer writes.Wait()
	for row := p.first; ; row++ {
		writes.Go(func() { p.write(context.WithoutCancel(ctx), row) })
		select {
		case <-ctx.Done():
			return
		case every := <-p.pace:
			tick.Reset(every)
		case <-tick.C:
		}
	}
}

func (p *Probe) write(ctx context.Context, row int64) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	msg, err := probeMessage(row)
	var ack *jetstream.PubAck
	if err == nil {
		ack, err = p.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0)) // the next write is the next try
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed = err
		return
	}
	p.acks = append(p.acks, time.Now())
	if other, known := p.accepted[ack.Sequence]; known && p.twice == nil {
		p.twice = fmt.Errorf("%s and %s were both acknowledged as message %d of %s: the first one is lost", other, msg.Subject, ack.Sequence,
			ack.Stream)
	}
	p.accepted[ack.Sequence] = msg.Subject
}

func probeMessage(row int64) (*nats.Msg, error) {
	it := Recorded().Item(1, 1)
	it.Row = row
	body, err := it.Encode()
	if err != nil {
		return nil, err
	}
	id := work.ID{Source: work.Queue, Row: row}
	flow, _ := it.Flow()
	msg := nats.NewMsg(bus.WorkSubject(it.Name, flow, id.String()))
	msg.Data = body
	msg.Header.Set(bus.HeaderMsgID, id.MsgID())
	msg.Header.Set(bus.HeaderID, id.String())
	msg.Header.Set(bus.HeaderKind, bus.HeaderText(it.Name))
	return msg, nil
}

// Gap is the longest time without an acknowledged write that touches the time from a moment until now. What is still going on
// counts as far as it has come.
func (p *Probe) Gap(from time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return longestGap(p.acks, from, time.Now())
}

func longestGap(acks []time.Time, from, until time.Time) (gap time.Duration) {
	last := from
	for _, at := range acks {
		switch {
		case at.After(until):
			return max(gap, at.Sub(last))
		case at.After(from):
			gap = max(gap, at.Sub(last))
		}
		last = at
	}
	return max(gap, until.Sub(last))
}

// AcceptedSince tells whether a write was acknowledged after a moment.
func (p *Probe) AcceptedSince(moment time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acks) > 0 && p.acks[len(p.acks)-1].After(moment)
}

// Failure is how the last write that was not acknowledged failed, or nil.
func (p *Probe) Failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Accepted returns the subjects of all acknowledged writes by their places in WORK. It fails when two were given the same place.
func (p *Probe) Accepted() (map[uint64]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.accepted) == 0 {
		return nil, errors.Join(errors.New("the probe has written nothing"), p.failed)
	}
	return maps.Clone(p.accepted), p.twice
}
