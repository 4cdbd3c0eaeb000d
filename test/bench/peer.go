package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// payload is what a step carries in every queue: some 512 bytes.
type payload struct {
	N   int    `json:"n"`
	Pad string `json:"pad"`
}

var pad = strings.Repeat("x", 490)

// queue is one system under measurement, fresh for each round. A step that it runs calls handle, and does nothing else.
type queue interface {
	// open starts its servers. Steps can be submitted then, and none runs.
	open(ctx context.Context, s *site, handle func(n int)) error
	// submit returns when the step is durable.
	submit(ctx context.Context, n int) error
	// begin lets steps run. It returns the moment from which the drain counts, or zero: from the first step on.
	begin(ctx context.Context) (time.Time, error)
	// finished tells whether this many steps are over, with everything that the queue writes about them.
	finished(ctx context.Context, steps int) (bool, error)
	// servers are the processes, besides this one, that do the work.
	servers() []*process
	close()
}

// peer is a line of the table.
type peer struct {
	name  string
	title string
	scale int // so many times --steps in a phase: fast ones need more for a phase that can be measured
	needs []string
	make  func() queue
}

// Names of what a peer needs besides this program.
const (
	needsPostgres = "postgresql"
	needsRedis    = "redis"
	needsBooster  = "booster"
)

// yardstick is the peer that ratios are made with.
const yardstick = "river"

func peers() []peer {
	sql := []string{needsPostgres}
	return []peer{
		{"ours-2", "ours, 2 slots", 1, []string{needsPostgres, needsBooster}, func() queue { return &ours{slots: 2} }},
		{"ours-32", "ours, 32 slots", 1, []string{needsPostgres, needsBooster}, func() queue { return &ours{slots: 32} }},
		{yardstick, "River, tuned", 3, sql, func() queue { return &riverQueue{} }},
		{"asynq", "asynq, always", 1, []string{needsRedis}, func() queue { return &asynqQueue{} }},
		{"jetstream", "raw JetStream, default sync", 5, nil, func() queue { return &jetStream{} }},
		{"jetstream-always", "raw JetStream, always", 1, nil, func() queue { return &jetStream{always: true} }},
	}
}

// choose returns the peers that a list names.
func choose(list string) ([]peer, error) {
	all := peers()
	if list == "all" {
		return all, nil
	}
	var chosen []peer
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(p peer) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--peers: there is no %q; choose from %s", name, strings.Join(names(all), ","))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func names(list []peer) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.name)
	}
	return out
}

// until polls a condition. It is asked often, because the time until it holds is measured.
func until(ctx context.Context, what string, ok func(ctx context.Context) (bool, error)) error {
	for {
		done, err := ok(ctx)
		if done {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(context.Cause(ctx), err))
		}
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
}
