package patch

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Revocation is the entry revoked.<key id> of CONTROL: nothing that this key has signed is applied any more. No program of ours
// removes one.
type Revocation struct {
	Key    string    `json:"key"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Revocations are revoked keys by their ids.
type Revocations map[string]Revocation

// Check returns an error that says when and why the key was revoked, or nil if it was not. It does not match ErrInvalid by itself.
func (r Revocations) Check(keyID string) error {
	known, revoked := r[keyID]
	switch {
	case !revoked:
		return nil
	case known.Reason != "":
		return fmt.Errorf("key %s, which signed it, was revoked on %s: %s", keyID, known.At.Format(time.DateOnly), known.Reason)
	}
	return fmt.Errorf("key %s, which signed it, was revoked on %s", keyID, known.At.Format(time.DateOnly))
}

// Revoke writes a revocation. A key that is revoked already stays so, with its former entry.
func Revoke(ctx context.Context, js jetstream.JetStream, r Revocation) error {
	known, _, err := bus.ReadKey(ctx, js, bus.BucketControl, bus.RevokedPrefix+bus.Token(r.Key))
	if err != nil || len(known) > 0 {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("revoke key %s: %w", r.Key, err)
	}
	kv, err := js.KeyValue(ctx, bus.BucketControl)
	if err == nil {
		_, err = kv.Put(ctx, bus.RevokedPrefix+bus.Token(r.Key), data)
	}
	if err != nil {
		return fmt.Errorf("revoke key %s: %w", r.Key, err)
	}
	return nil
}

// Revoked returns all revocations on the bus. One that cannot be read counts all the same.
func Revoked(ctx context.Context, js jetstream.JetStream) (Revocations, error) {
	entries, err := bus.ReadAll(ctx, js, bus.BucketControl, bus.RevokedPrefix+"*")
	if err != nil {
		return nil, err
	}
	revoked := make(Revocations, len(entries))
	for _, e := range entries {
		if len(e.Value) == 0 {
			continue // removed by hand; agents that knew it bring it back
		}
		var r Revocation
		_ = json.Unmarshal(e.Value, &r)
		r.Key = strings.TrimPrefix(e.Key, bus.RevokedPrefix)
		revoked[r.Key] = r
	}
	return revoked, nil
}
