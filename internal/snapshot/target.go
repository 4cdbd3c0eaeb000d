package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Standing is how a stream on a bus compares with the one in a snapshot.
type Standing string

// The standings; see the package comment for what Restore makes of each.
const (
	Absent   Standing = "absent"
	Empty    Standing = "empty"
	Partial  Standing = "partial"  // a restore that was interrupted left it
	Same     Standing = "same"     // state and consumers are those of the snapshot
	Occupied Standing = "occupied" // holds messages, and others than the snapshot
)

// Target is a stream of a snapshot and what stands in its place on a bus.
type Target struct {
	Stream   Stream
	Standing Standing
	Messages uint64 // on the bus
	now      described
}

// Compare looks at a bus and says for each stream of the snapshot what Restore would find.
func Compare(ctx context.Context, js jetstream.JetStream, m Manifest) ([]Target, error) {
	l := newLink(js, 0)
	var targets []Target
	for _, s := range m.Streams {
		t, err := l.target(ctx, s)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// stallTimeout is more than the five seconds of silence after which a server gives a restore up. A cluster may then delete the stream.
const stallTimeout = 7 * time.Second

func (l link) clustered() bool { return l.nc.ConnectedClusterName() != "" }

func (l link) target(ctx context.Context, s Stream) (Target, error) {
	t := Target{Stream: s, Standing: Absent}
	for looks := 0; ; looks++ {
		now, ok, err := l.info(ctx, s.Name)
		if err != nil {
			return t, fmt.Errorf("look at stream %s: %w", s.Name, err)
		}
		if !ok {
			return t, nil
		}
		t.now = now
		// A young stream of a cluster may be what an interrupted restore left, about to go.
		young := stallTimeout - time.Since(now.Created)
		if !l.clustered() || young <= 0 || looks > 0 {
			break
		}
		if err := pause(ctx, min(young, stallTimeout)); err != nil {
			return t, err
		}
	}
	t.Messages = t.now.State.Messages
	if markOf(t.now.Config) != "" {
		t.Standing = Partial
		return t, nil
	}
	same, err := l.same(ctx, s, t.now.State)
	switch {
	case err != nil:
		return t, fmt.Errorf("look at consumers of stream %s: %w", s.Name, err)
	case same:
		t.Standing = Same
	case t.Messages == 0:
		t.Standing = Empty
	default:
		t.Standing = Occupied
	}
	return t, nil
}

// same recognises a stream that was restored and not used since. Times are compared as well, because two young Boosters may agree in all
// the numbers.
func (l link) same(ctx context.Context, s Stream, now state) (bool, error) {
	if now.Messages != s.Messages || now.Bytes != s.Bytes || now.LastSeq != s.LastSeq {
		return false, nil
	}
	if s.Messages > 0 && (now.FirstSeq != s.FirstSeq || !now.FirstTime.Equal(s.FirstTime)) {
		return false, nil
	}
	if !s.LastTime.IsZero() && !now.LastTime.Equal(s.LastTime) {
		return false, nil
	}
	for _, c := range s.Consumers {
		if !c.Durable {
			continue // lives only as long as its client
		}
		floor, ok, err := l.ackFloor(ctx, s.Name, c.Name)
		if err != nil || !ok || floor != c.AckFloor {
			return false, err
		}
	}
	return true, nil
}

func (l link) ackFloor(ctx context.Context, stream, consumer string) (floor uint64, ok bool, err error) {
	var info struct {
		AckFloor struct {
			Stream uint64 `json:"stream_seq"`
		} `json:"ack_floor"`
	}
	err = l.look(ctx, "CONSUMER.INFO."+stream+"."+consumer, &info)
	if isNotFound(err) {
		return 0, false, nil
	}
	return info.AckFloor.Stream, err == nil, err
}

// sizes are the parts of a stream's configuration that belong to the machine that it is on and not to its messages.
type sizes struct {
	MaxBytes int64 `json:"max_bytes"`
	Replicas int   `json:"num_replicas"`
}

func sizesOf(config json.RawMessage) (s sizes) {
	_ = json.Unmarshal(config, &s) // validated as JSON before
	return s
}

// markKey is the metadata that a stream has from the beginning of its restore until it was checked; its value is the snapshot's id. Servers
// keep what they have of an interrupted restore, and that is not to be taken for somebody's messages.
const markKey = "omflow-booster.restoring"

func markOf(config json.RawMessage) string {
	var c struct {
		Metadata map[string]string `json:"metadata"`
	}
	_ = json.Unmarshal(config, &c)
	return c.Metadata[markKey]
}

// Unfinished tells whether a stream is being restored, or was when its restore was interrupted. It must not be changed then.
func Unfinished(c jetstream.StreamConfig) bool { return c.Metadata[markKey] != "" }

// withSizes returns config with other sizes, and with the mark, or without it if id is empty. Everything else stays as it is.
func withSizes(config json.RawMessage, want sizes, id string) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	metadata := map[string]string{}
	if own, ok := fields["metadata"]; ok {
		if err := json.Unmarshal(own, &metadata); err != nil {
			return nil, fmt.Errorf("read metadata: %w", err)
		}
	}
	delete(metadata, markKey)
	if id != "" {
		metadata[markKey] = id
	}
	for name, value := range map[string]any{"max_bytes": want.MaxBytes, "num_replicas": want.Replicas, "metadata": metadata} {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[name] = data
	}
	return json.Marshal(fields)
}

// mayShrink tells whether a stream can lose messages by itself between its restore and the look at it: steps that workers acknowledge at
// once, and messages whose time has passed.
func mayShrink(config json.RawMessage) bool {
	var c struct {
		Retention string        `json:"retention"`
		MaxAge    time.Duration `json:"max_age"`
		TTL       bool          `json:"allow_msg_ttl"`
	}
	_ = json.Unmarshal(config, &c)
	return c.Retention != "limits" || c.MaxAge > 0 || c.TTL
}
