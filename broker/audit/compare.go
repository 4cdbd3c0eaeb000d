package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	contentSpan  = 8192             // sequences of one question
	objectSpan   = 64               // the same for an object store, in chunks of 128 KiB
	settleLooks  = 2                // further looks at what differs
	settlePause  = time.Second      // before each
	followWithin = 20 * time.Second // all members reach the same place of the log, or the comparison is put off
)

// comparison is what comparing the copies of a stream came to. Each message has the votes of the copies, one of which may be
// "not there". A copy that is outvoted is odd. Two odd ones, or a vote without a majority, and nobody knows who is right.
type comparison struct {
	group     []string
	odd       string // the one member that differs from the others, if any
	undecided bool
	messages  int    // that differ, of the windows up to the one in which the first does
	first     uint64 // sequence of the first of them
}

func (c comparison) sound() bool { return c.odd == "" && !c.undecided }

// members are those that are meant: all, while nobody knows who is right.
func (c comparison) members() []string {
	if c.undecided {
		return c.group
	}
	return []string{c.odd}
}

// compare compares every message of a stream among the members of its group. Nothing is stopped for that: members store and
// remove at different moments, but in the same order, that of the stream's log. So what differs is looked at again when
// everybody has got to where the furthest was at the look before; a difference that was one of time is gone then, and one that
// stays is real.
func (a *Auditor) compare(ctx context.Context, stream string, group []string) (c comparison, err error) {
	c.group = group
	furthest, first, last, err := a.place(ctx, stream, group)
	if err != nil {
		return c, err
	}
	if err := a.follow(ctx, stream, group, furthest); err != nil {
		return c, err
	}
	for from := first; from <= last; {
		began := time.Now()
		to := min(from+spanOf(stream), last+1)
		copies, next, err := a.window(ctx, stream, group, from, to)
		if err != nil {
			return c, err
		}
		rest := time.Since(began) // a member reads half of the time at most
		for look := 0; look < settleLooks && len(c.unexplained(copies)) > 0; look++ {
			if copies, err = a.again(ctx, stream, group, from, to); err != nil {
				return c, err
			}
		}
		c.count(copies)
		if c.undecided || next == 0 || next > last {
			return c, nil
		}
		from = next
		bus.Sleep(ctx, rest)
	}
	return c, ctx.Err()
}

// spanOf is how much one question covers: what a member reads in a moment, for it answers within askTimeout.
func spanOf(stream string) uint64 {
	if bus.IsObjectStream(stream) {
		return objectSpan
	}
	return contentSpan
}

// again looks at a window when everybody has got to where the furthest is now.
func (a *Auditor) again(ctx context.Context, stream string, group []string, from, to uint64) ([]contents, error) {
	furthest, _, _, err := a.place(ctx, stream, group)
	if err != nil {
		return nil, err
	}
	bus.Sleep(ctx, settlePause)
	if err := a.follow(ctx, stream, group, furthest); err != nil {
		return nil, err
	}
	copies, _, err := a.window(ctx, stream, group, from, to)
	return copies, err
}

// place is how far the furthest member is, and which sequences any of them may have.
func (a *Auditor) place(ctx context.Context, stream string, group []string) (furthest, first, last uint64, err error) {
	for _, member := range group {
		var s replicaState
		if err := a.ask(ctx, askState, member, nil, &s); err != nil {
			return 0, 0, 0, err
		}
		c, there := s.Streams[stream]
		if !there {
			return 0, 0, 0, fmt.Errorf("%s has no copy", member)
		}
		furthest, last = max(furthest, c.Applied), max(last, c.Last)
		if first == 0 || c.First < first {
			first = c.First
		}
	}
	return furthest, max(first, 1), last, nil
}

// follow waits until every member has got to a place of the log.
func (a *Auditor) follow(ctx context.Context, stream string, group []string, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	for _, member := range group {
		for {
			var s replicaState
			if err := a.ask(ctx, askState, member, nil, &s); err != nil {
				return err
			}
			if s.Streams[stream].Applied >= index {
				break
			}
			if !bus.Sleep(ctx, 100*time.Millisecond) {
				return errors.Join(fmt.Errorf("%s lags", member), ctx.Err())
			}
		}
	}
	return nil
}

// window asks all members at once for a window. next is the first message after it that any of them has, 0 when there is none.
func (a *Auditor) window(ctx context.Context, stream string, group []string, from, to uint64) (copies []contents, next uint64, err error) {
	question, err := json.Marshal(contentQuestion{stream, from, to})
	if err != nil {
		return nil, 0, err
	}
	answers, failed := make([]contentAnswer, len(group)), make([]error, len(group))
	var members sync.WaitGroup
	for i, member := range group {
		members.Go(func() { failed[i] = a.ask(ctx, askContent, member, question, &answers[i]) })
	}
	members.Wait()
	for _, answer := range answers {
		copies = append(copies, unpack(answer.Contents))
		if answer.Next != 0 && (next == 0 || answer.Next < next) {
			next = answer.Next
		}
	}
	return copies, next, errors.Join(failed...)
}

// unexplained are the sequences that differ among those who are not known to be odd.
func (c *comparison) unexplained(copies []contents) (sequences []uint64) {
	all := contents{}
	for _, copied := range copies {
		maps.Copy(all, copied)
	}
	for seq := range all {
		if len(c.votes(copies, seq, c.odd)) > 1 {
			sequences = append(sequences, seq)
		}
	}
	slices.Sort(sequences)
	return sequences
}

// votes are who has what under a sequence. One member may be left out.
func (c *comparison) votes(copies []contents, seq uint64, without string) map[uint64][]string {
	votes := map[uint64][]string{}
	for i, member := range c.group {
		if member != without {
			votes[copies[i][seq]] = append(votes[copies[i][seq]], member)
		}
	}
	return votes
}

// count adds what still differs after all looks.
func (c *comparison) count(copies []contents) {
	for _, seq := range c.unexplained(copies) {
		c.messages++
		if c.first == 0 {
			c.first = seq
		}
		odd := outvoted(c.votes(copies, seq, ""))
		if odd == "" || (c.odd != "" && c.odd != odd) {
			c.undecided = true
			return
		}
		if c.odd == "" {
			c.odd = odd // what else differs in this window counts, too
		}
	}
}

// outvoted is the one member that differs from several who agree; empty when there is no such vote.
func outvoted(votes map[uint64][]string) (odd string) {
	agreed := 0
	for _, members := range votes {
		if len(members) == 1 {
			odd = members[0]
		} else {
			agreed++
		}
	}
	if agreed != 1 || len(votes) != 2 {
		return ""
	}
	return odd
}
