package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// What became of a patch on a node.
const (
	StateApplied    = "applied"     // in place, and the server was healthy with it
	StateFailed     = "failed"      // for good: the node has passed it over
	StateRolledBack = "rolled back" // for good: it was in place, or nearly, and the node is as it was before
	StateSkipped    = "skipped"     // older than what the node has
	StateRetrying   = "retrying"    // failed for now; later patches wait until it is through
	StateConflict   = "conflict"    // its files were changed here, too; somebody has to say what holds, and later patches wait
)

// Report is the entry <patch id>.<node> of ROLLOUT.
type Report struct {
	Patch   string    `json:"patch"`
	Node    string    `json:"node"`
	Seq     uint64    `json:"seq"`     // of the announcement that the node acted upon
	Created time.Time `json:"created"` // when the patch was built
	State   string    `json:"state"`
	Error   string    `json:"error"`
	From    string    `json:"from"` // version of the home before
	To      string    `json:"to"`   // version of the home after
	Written
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
}

// Written is what a patch has changed in a home.
type Written struct {
	Files   int   `json:"files"` // a file that was the same already is not counted
	Bytes   int64 `json:"bytes"`
	Deleted int   `json:"deleted"`
}

// Key is the report's key in ROLLOUT.
func (r Report) Key() string { return bus.Token(r.Patch) + "." + bus.Token(r.Node) }

// FormerKey is where an older program has the report. Several nodes may share it, but the report says whose it is.
func (r Report) FormerKey() string { return bus.FormerToken(r.Patch) + "." + bus.FormerToken(r.Node) }

// ReadReport is what became of a patch on a node, and the revision of its entry; 0 when there is none.
func ReadReport(ctx context.Context, js jetstream.JetStream, patchID, node string) (r Report, revision uint64, err error) {
	asked := Report{Patch: patchID, Node: node}
	for _, key := range []string{asked.Key(), asked.FormerKey()} {
		value, revision, err := bus.ReadKey(ctx, js, bus.BucketRollout, key)
		if err != nil {
			return r, 0, err
		}
		if len(value) > 0 && json.Unmarshal(value, &r) == nil && r.Node == node {
			return r, revision, nil
		}
		if asked.FormerKey() == key {
			break // the same place
		}
	}
	return Report{}, 0, nil
}

// Final tells whether the node is through with the patch.
func (r Report) Final() bool {
	return r.State == StateApplied || r.State == StateFailed || r.State == StateRolledBack || r.State == StateSkipped
}

// PutReport writes what became of a patch on a node.
func PutReport(ctx context.Context, js jetstream.JetStream, r Report) error {
	kv, err := js.KeyValue(ctx, bus.BucketRollout)
	if err != nil {
		return fmt.Errorf("open %s: %w", bus.BucketRollout, err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report patch %s: %w", r.Patch, err)
	}
	if _, err := kv.Put(ctx, r.Key(), data); err != nil {
		return fmt.Errorf("report patch %s: %w", r.Patch, err)
	}
	return nil
}

// Reports returns all reports by patch id, each patch's sorted by node.
func Reports(ctx context.Context, js jetstream.JetStream) (map[string][]Report, error) {
	kv, err := js.KeyValue(ctx, bus.BucketRollout)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bus.BucketRollout, err)
	}
	watch, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", bus.BucketRollout, err)
	}
	defer func() { _ = watch.Stop() }()
	reports := make(map[string][]Report)
	former := []Report{} // those that an older program has written
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read %s: %w", bus.BucketRollout, ctx.Err())
		case entry, open := <-watch.Updates():
			if !open {
				return nil, fmt.Errorf("read %s: %w", bus.BucketRollout, errors.New("connection lost"))
			}
			if entry == nil { // everything that is there has been sent
				for _, r := range former {
					if !slices.ContainsFunc(reports[r.Patch], func(newer Report) bool { return newer.Node == r.Node }) {
						reports[r.Patch] = append(reports[r.Patch], r)
					}
				}
				for _, list := range reports {
					sort.Slice(list, func(i, j int) bool { return list[i].Node < list[j].Node })
				}
				return reports, nil
			}
			var r Report
			err := json.Unmarshal(entry.Value(), &r)
			switch {
			case err != nil: // ROLLOUT holds the plans of rollouts, too
			case entry.Key() == r.Key():
				reports[r.Patch] = append(reports[r.Patch], r)
			case entry.Key() == r.FormerKey():
				former = append(former, r)
			}
		}
	}
}
