package patch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	Patch    string    `json:"patch"`
	Node     string    `json:"node"`
	Seq      uint64    `json:"seq"`     // of the announcement that the node acted upon
	Created  time.Time `json:"created"` // when the patch was built
	State    string    `json:"state"`
	Error    string    `json:"error"`
	From     string    `json:"from"`  // version of the home before
	To       string    `json:"to"`    // version of the home after
	Files    int       `json:"files"` // written; a file that was the same already is not counted
	Bytes    int64     `json:"bytes"`
	Deleted  int       `json:"deleted"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
}

// Key is the report's key in ROLLOUT.
func (r Report) Key() string { return bus.Token(r.Patch) + "." + bus.Token(r.Node) }

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
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read %s: %w", bus.BucketRollout, ctx.Err())
		case entry, open := <-watch.Updates():
			if !open {
				return nil, fmt.Errorf("read %s: %w", bus.BucketRollout, errors.New("connection lost"))
			}
			if entry == nil { // everything that is there has been sent
				for _, list := range reports {
					sort.Slice(list, func(i, j int) bool { return list[i].Node < list[j].Node })
				}
				return reports, nil
			}
			var r Report
			if json.Unmarshal(entry.Value(), &r) == nil && entry.Key() == r.Key() { // ROLLOUT holds the plans of rollouts, too
				reports[r.Patch] = append(reports[r.Patch], r)
			}
		}
	}
}
