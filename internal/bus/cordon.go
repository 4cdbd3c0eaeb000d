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
	Node string    `json:"node"` // empty: an older program wrote it
	By   string    `json:"by"`
	Note string    `json:"note"`
	At   time.Time `json:"at"`
}

// CordonSubject is the subject of a node's cordon, for listeners that must know at once.
func CordonSubject(node string) string { return KeySubject(BucketControl, cordonKey(node)) }

func cordonKey(node string) string { return "cordon." + Token(node) }

// formerKey is where an older program has the cordon of a node, or empty when that is the same place. Several nodes may share it.
func formerKey(node string) string {
	if key := "cordon." + FormerToken(node); key != cordonKey(node) {
		return key
	}
	return ""
}

// ReadCordon is the cordon of a node. on is false when there is none.
func ReadCordon(ctx context.Context, js jetstream.JetStream, node string) (c Cordon, on bool, err error) {
	for _, key := range []string{cordonKey(node), formerKey(node)} {
		if key == "" {
			continue
		}
		value, _, err := ReadKey(ctx, js, BucketControl, key)
		if err != nil {
			return c, false, err
		}
		if len(value) == 0 {
			continue
		}
		c = Cordon{}
		if err := json.Unmarshal(value, &c); err != nil {
			return c, true, fmt.Errorf("cordon of %s: %w", node, err)
		}
		if c.Node == "" || c.Node == node {
			return c, true, nil
		}
	}
	return Cordon{}, false, nil
}

// SetCordon keeps a node from taking steps; it finishes those that it has.
func SetCordon(ctx context.Context, js jetstream.JetStream, node string, c Cordon) error {
	c.Node = node
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
	if err == nil {
		err = liftFormer(ctx, js, kv, node)
	}
	if err != nil {
		return fmt.Errorf("uncordon %s: %w", node, err)
	}
	return nil
}

// liftFormer removes what an older program has written, of which only it knows whether it meant this node.
func liftFormer(ctx context.Context, js jetstream.JetStream, kv jetstream.KeyValue, node string) error {
	key := formerKey(node)
	if key == "" {
		return nil
	}
	value, revision, err := ReadKey(ctx, js, BucketControl, key)
	if err != nil || len(value) == 0 {
		return err
	}
	var c Cordon
	if json.Unmarshal(value, &c) == nil && c.Node != "" && c.Node != node {
		return nil
	}
	return kv.Delete(ctx, key, jetstream.LastRevision(revision))
}
