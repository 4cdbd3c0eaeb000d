package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Limits that hold whatever the size of the disk.
const (
	// MaxPayload is what a server must accept in one message: an item plus its headers.
	MaxPayload = work.MaxItemBytes + 64<<10

	maxWorkMsgs   = 2_000_000        // some 300 MB of index in memory; full means that rows wait in SQL
	maxAckPending = 200_000          // running steps plus steps waiting for their next try
	dedupeWindow  = time.Minute      // catches a repeated publish; the row, not this, is the truth
	nodeTTL       = 15 * time.Second // a node that misses seven heartbeats is gone
	historyOfKey  = 1
)

// Layout is what may differ between Boosters: sizes, replicas and the lease of a step.
type Layout struct {
	StoreBytes int64         // all of JetStream's files together
	Replicas   int           // 1, 2 or 3
	Lease      time.Duration // a delivered step belongs to its worker this long; renewed at a quarter of it
}

// Share of StoreBytes that each stream may fill. The sum stays under 1 so that no limit promises space that another uses.
const (
	shareWork    = 0.40
	shareDead    = 0.10
	sharePatch   = 0.02
	sharePatches = 0.35
	shareKV      = 0.02 // each of NODES, ROLLOUT and CONTROL
)

func (l Layout) share(part float64) int64 { return int64(float64(l.StoreBytes) * part) }

// Ensure creates every stream, consumer, bucket and store, or brings it up to date, and may be repeated at any time.
// CONTROL comes last: who finds it finds everything.
func Ensure(ctx context.Context, js jetstream.JetStream, l Layout) error {
	for _, cfg := range l.streams() {
		if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
	}
	workers := l.Workers()
	if there, err := js.Consumer(ctx, StreamWork, ConsumerWorkers); err == nil {
		workers, _ = l.AdjustWorkers(there.CachedInfo().Config)
	}
	if _, err := js.CreateOrUpdateConsumer(ctx, StreamWork, workers); err != nil {
		return fmt.Errorf("consumer %s of %s: %w", ConsumerWorkers, StreamWork, err)
	}
	if _, err := js.CreateOrUpdateObjectStore(ctx, l.patches()); err != nil {
		return fmt.Errorf("object store %s: %w", ObjectPatches, err)
	}
	for _, cfg := range l.buckets() {
		if there, err := js.Stream(ctx, "KV_"+cfg.Bucket); err == nil {
			wanted, _ := l.Adjust(there.CachedInfo().Config, there.CachedInfo().State.Bytes)
			cfg.MaxBytes = wanted.MaxBytes
		}
		if _, err := js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
			return fmt.Errorf("bucket %s: %w", cfg.Bucket, err)
		}
	}
	return nil
}

func (l Layout) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name:        StreamWork,
			Description: "steps waiting or running: work.<kind>.<flow>.<id>",
			Subjects:    []string{"work.*.*.*"},
			Retention:   jetstream.WorkQueuePolicy,
			Storage:     jetstream.FileStorage,
			Discard:     jetstream.DiscardNew, // full is said to the sender; nothing is dropped
			// A subject names one row, so this makes the server itself refuse to queue a row twice.
			MaxMsgsPerSubject:    1,
			DiscardNewPerSubject: true,
			MaxMsgs:              maxWorkMsgs,
			MaxBytes:             l.share(shareWork),
			MaxMsgSize:           MaxPayload,
			Duplicates:           dedupeWindow,
			Replicas:             l.Replicas,
			AllowDirect:          true,
		},
		{
			Name:              StreamDead,
			Description:       "steps given up on: dead.<kind>.<flow>.<id>",
			Subjects:          []string{"dead.*.*.*"},
			Storage:           jetstream.FileStorage,
			Discard:           jetstream.DiscardNew,
			MaxMsgsPerSubject: 1, // the last death of a step replaces the one before
			MaxBytes:          l.share(shareDead),
			MaxMsgSize:        MaxPayload,
			Duplicates:        dedupeWindow,
			Replicas:          l.Replicas,
			AllowDirect:       true,
		},
		{
			Name:        StreamPatch,
			Description: "patches in the order in which every agent applies them",
			Subjects:    []string{"patch.>"},
			Storage:     jetstream.FileStorage,
			Discard:     jetstream.DiscardNew,
			MaxBytes:    l.share(sharePatch),
			MaxMsgSize:  1 << 20,
			Replicas:    l.Replicas,
			AllowDirect: true,
		},
	}
}

// Workers is the consumer that all workers pull from.
func (l Layout) Workers() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       ConsumerWorkers,
		Description:   "all workers pull from here",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       l.Lease,
		MaxDeliver:    -1, // giving up is the worker's decision, see worker/DESIGN.md
		MaxAckPending: maxAckPending,
		MaxWaiting:    4096,
	}
}

func (l Layout) patches() jetstream.ObjectStoreConfig {
	return jetstream.ObjectStoreConfig{
		Bucket:      ObjectPatches,
		Description: "patch artifacts",
		Storage:     jetstream.FileStorage,
		MaxBytes:    l.share(sharePatches),
		Replicas:    l.Replicas,
	}
}

func (l Layout) buckets() []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{
		{
			Bucket:      BucketNodes,
			Description: "heartbeats: <role>.<name>",
			TTL:         nodeTTL,
			Storage:     jetstream.FileStorage, // worth nothing after a restart, but in memory it has no leader until every member is back
			MaxBytes:    min(16<<20, l.share(shareKV)),
			History:     historyOfKey,
			Replicas:    l.Replicas,
		},
		{
			Bucket:      BucketRollout,
			Description: "what became of a patch on a node: <patch>.<node>; how it is rolled out: plan.<patch>",
			Storage:     jetstream.FileStorage,
			MaxBytes:    l.share(shareKV),
			History:     historyOfKey,
			Replicas:    l.Replicas,
		},
		{
			Bucket:      BucketControl,
			Description: "locks and switches",
			Storage:     jetstream.FileStorage,
			MaxBytes:    l.share(shareKV),
			History:     historyOfKey,
			Replicas:    l.Replicas,
		},
	}
}

// JetStream's codes for "this stream refuses the message" (nats-server, server/errors.json: JSStreamStoreFailedF).
const codeStoreFailed = 10077

// IsQueued tells whether a publish failed because the step is in the queue already.
func IsQueued(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeStoreFailed && api.Description == "maximum messages per subject exceeded"
}

// IsFull tells whether a publish failed because the stream has reached its limit, or the Booster its disk.
func IsFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	storeFull := api.ErrorCode == codeStoreFailed &&
		(api.Description == "maximum messages exceeded" || api.Description == "maximum bytes exceeded")
	return storeFull || api.ErrorCode == 10047 || api.ErrorCode == 10023 // resources exceeded, insufficient resources
}
