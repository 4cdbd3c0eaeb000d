package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Cordon keeps the worker of one node from taking steps, for as long as its key is in CONTROL. The OMFLOW Server goes on.
type Cordon struct {
	By   string    `json:"by"`
	Note string    `json:"note"`
	At   time.Time `json:"at"`
}

// CordonSubject is the subject of a node's cordon, for whoever wants to know at once.
func CordonSubject(node string) string { return "$KV." + BucketControl + "." + cordonKey(node) }

func cordonKey(node string) string { return "cordon." + Token(node) }

// ReadCordon is the cordon of a node. on is false when there is none.
func ReadCordon(ctx context.Context, js jetstream.JetStream, node string) (c Cordon, on bool, err error) {
	value, _, err := ReadKey(ctx, js, BucketControl, cordonKey(node))
	if err != nil || len(value) == 0 {
		return c, false, err
	}
	if err := json.Unmarshal(value, &c); err != nil {
		return c, true, fmt.Errorf("cordon of %s: %w", node, err)
	}
	return c, true, nil
}

// SetCordon keeps a node from taking steps; it finishes those that it has.
func SetCordon(ctx context.Context, js jetstream.JetStream, node string, c Cordon) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("cordon %s: %w", node, err)
	}
	if _, err := js.Publish(ctx, CordonSubject(node), data); err != nil {
		return fmt.Errorf("cordon %s: %w", node, err)
	}
	return nil
}

// LiftCordon lets a node take steps again.
func LiftCordon(ctx context.Context, js jetstream.JetStream, node string) error {
	kv, err := js.KeyValue(ctx, BucketControl)
	if err == nil {
		err = kv.Delete(ctx, cordonKey(node))
	}
	if err != nil {
		return fmt.Errorf("uncordon %s: %w", node, err)
	}
	return nil
}
