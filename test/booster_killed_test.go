//go:build linux

package test

import (
	"context"
	"fmt"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// The Booster loses its process, and with it every connection and every lease, again and again.
func TestBoosterIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	// given two servers at which people file tickets
	s := startSite(t, 2, env{"BOOSTER_LEASE": "3s"})
	s.fileTickets()
	// when the Booster is killed at any moment, and started again after some more tickets were filed
	for range 3 {
		s.afterSteps(s.some(15, 60))
		s.booster.kill()
		s.afterTickets(s.some(1, 8))
		waiting := s.waiting()
		s.booster.restart()
		// then what waited meanwhile gets its turn, although people go on filing tickets
		s.untilGone(waiting)
	}
	// then nothing is lost and nothing happened twice
	s.finish()
}

// The Booster loses its disk, too: the rows are all that is left of the queue.
func TestQueueIsRebuiltFromTheTable(t *testing.T) {
	t.Parallel()
	// given two servers at which people file tickets
	s := startSite(t, 2, env{"BOOSTER_LEASE": "3s"})
	s.fileTickets()
	// when the Booster comes back with nothing, twice
	for range 2 {
		s.afterSteps(s.some(15, 60))
		s.booster.kill()
		s.afterTickets(s.some(5, 15))
		waiting := s.waiting()
		s.booster.wipe()
		s.booster.restart()
		// then what was queued before gets its turn, although people go on filing tickets
		s.untilGone(waiting)
	}
	// then nothing is lost and nothing happened twice
	s.finish()
}

// waiting is the rows that are in omflow_queuedata now.
func (s *site) waiting() []int64 {
	s.t.Helper()
	var rows []int64
	if err := s.db.SelectContext(s.t.Context(), &rows, `SELECT id FROM omflow_queuedata`); err != nil {
		s.t.Fatal(err)
	}
	return rows
}

// untilGone returns when none of these rows is left.
func (s *site) untilGone(rows []int64) {
	s.t.Helper()
	testkit.Await(s.t, timeout, fmt.Sprintf("%d rows to be done", len(rows)), func(ctx context.Context) error {
		left, err := s.count(ctx, `SELECT count(*) FROM omflow_queuedata WHERE id = ANY($1)`, rows)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d are left; %s", left, s.queue(ctx))
		}
		return err
	})
}

// queue is how the Booster sees the queue, for the message of a scenario that waits in vain.
func (s *site) queue(ctx context.Context) string {
	c, err := bus.Dial(s.booster.client(), "test")
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	stream, err := c.JS.Stream(ctx, bus.StreamWork)
	if err != nil {
		return err.Error()
	}
	consumer, err := stream.Consumer(ctx, bus.ConsumerWorkers)
	if err != nil {
		return err.Error()
	}
	work, workers := stream.CachedInfo().State, consumer.CachedInfo()
	return fmt.Sprintf("WORK has %d messages from %d to %d; workers were given up to %d and have acknowledged up to %d, %d are with "+
		"them, %d are to come, %d requests are open",
		work.Msgs, work.FirstSeq, work.LastSeq, workers.Delivered.Stream, workers.AckFloor.Stream, workers.NumAckPending, workers.NumPending,
		workers.NumWaiting)
}
