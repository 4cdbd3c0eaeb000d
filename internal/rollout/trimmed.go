package rollout

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// purgeKeys removes keys without a trace: a full bucket takes no mark of a removal.
func purgeKeys(ctx context.Context, js jetstream.JetStream, filter string) error {
	stream, err := js.Stream(ctx, bus.BucketStream(bus.BucketRollout))
	if err == nil {
		err = stream.Purge(ctx, jetstream.WithPurgeSubject(bus.KeySubject(bus.BucketRollout, filter)))
	}
	if err != nil {
		return fmt.Errorf("remove %s from %s: %w", filter, bus.BucketRollout, err)
	}
	return nil
}

// TrimmedThrough is the sequence of the last patch that was removed from PATCH because every server was through with it; 0: none was.
func TrimmedThrough(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	value, _, err := bus.ReadKey(ctx, js, bus.BucketRollout, bus.KeyTrimmed)
	if err != nil || len(value) == 0 {
		return 0, err
	}
	var t trimmed
	if err := json.Unmarshal(value, &t); err != nil {
		return 0, fmt.Errorf("%s of %s: %w", bus.KeyTrimmed, bus.BucketRollout, err)
	}
	return t.Seq, nil
}

// trimmed is the key of that name.
type trimmed struct {
	Seq uint64 `json:"seq"`
}

func putKey(ctx context.Context, js jetstream.JetStream, key string, value any) error {
	data, err := json.Marshal(value)
	if err == nil {
		_, err = js.Publish(ctx, bus.KeySubject(bus.BucketRollout, key), data)
	}
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", key, bus.BucketRollout, err)
	}
	return nil
}
