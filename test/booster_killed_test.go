//go:build linux

package test

import "testing"

// The Booster loses its process, and with it every connection and every lease, again and again.
func TestBoosterIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	// given two servers at which people file tickets
	s := startSite(t, 2, env{"BOOSTER_LEASE": "3s"})
	s.fileTickets()
	// when the Booster is killed at any moment, and started again after some more tickets were filed
	for range 4 {
		s.afterSteps(s.some(15, 60))
		s.booster.kill()
		s.afterTickets(s.some(1, 8))
		s.booster.restart()
	}
	s.afterSteps(20)
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
		s.booster.wipe()
		s.booster.restart()
	}
	s.afterSteps(20)
	// then nothing is lost and nothing happened twice
	s.finish()
}
