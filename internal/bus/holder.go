package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	askTimeout = time.Second        // for the holder of a name to answer
	deathAfter = 3 * HeartbeatEvery // an entry that was not rewritten for so long is that of a dead node
	deathLook  = HeartbeatEvery / 4
)

// CloneError says that another living node has the same role and name.
type CloneError struct{ Other Node }

func (e *CloneError) Error() string {
	n := e.Other
	where := n.Address
	if where == "" {
		where = "an address that it does not tell"
	}
	return fmt.Sprintf("another %s named %q is alive at %s (host %s, process %d, since %s)", n.Role, n.Name, where, n.Host, n.PID,
		n.Started.Format(time.DateTime))
}

// RefuseClone returns a *CloneError when another living node has this role and name, and nil also when nobody can tell at this moment:
// Heartbeat finds it later. A former process of the same node is dead and no clone, whatever it has left in NODES.
func RefuseClone(ctx context.Context, js jetstream.JetStream, role, name string) error {
	h := holder{js: js, node: Node{Role: role, Name: name}}
	if other, err := h.living(ctx); err == nil && other != nil {
		return &CloneError{*other}
	}
	return nil
}

// holder is a node that holds its name, or wants to: an entry in NODES that it alone rewrites, and an answer to every question for the
// holder. The second one is refused, so that of two machines that are copies one goes on.
type holder struct {
	js       jetstream.JetStream
	node     Node   // as it was said last
	instance string // unlike that of every other process
	revision uint64 // of our entry; 0 before the first
	answers  *nats.Subscription
	said     atomic.Pointer[[]byte] // the answer
}

// beat rewrites the entry if nobody else has, and returns a *CloneError when a living one has.
func (h *holder) beat(ctx context.Context, n Node) error {
	n.At, n.Instance = time.Now(), h.instance
	if n.Address == "" {
		if ip, err := h.js.Conn().GetClientIP(); err == nil && ip != nil {
			n.Address = ip.String()
		}
	}
	h.node = n
	if h.revision == 0 { // the name may be somebody's, with an entry or without
		if err := h.confront(ctx); err != nil {
			return err
		}
	}
	err := h.write(ctx, h.revision)
	if !IsRefused(err) {
		return err
	}
	value, current, err := h.read(ctx)
	if err != nil {
		return err
	}
	var other Node
	if json.Unmarshal(value, &other) == nil && other.Instance != h.instance { // else it expired, or an answer to us was lost
		// An older program writes over everybody. Who was here first stays.
		if h.revision == 0 || other.Instance != "" {
			if err := h.confront(ctx); err != nil {
				return err
			}
		}
		if _, current, err = h.read(ctx); err != nil {
			return err
		}
	}
	return h.write(ctx, current)
}

// confront returns a *CloneError when somebody else is the living holder.
func (h *holder) confront(ctx context.Context) error {
	h.silence() // or we hear ourselves
	other, err := h.living(ctx)
	if err != nil {
		return err
	}
	if other != nil {
		return &CloneError{*other}
	}
	return nil
}

// living is another node that holds the name and is alive, or nil. It is asked; one that cannot be, because it runs an older program or the
// way to it is broken, is watched until it has rewritten its entry, or should have.
func (h *holder) living(ctx context.Context) (*Node, error) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	reply, askErr := h.js.Conn().RequestWithContext(asking, HolderSubject(h.node.Role, h.node.Name), nil)
	cancel()
	var other Node
	if askErr == nil && json.Unmarshal(reply.Data, &other) == nil {
		return &other, nil
	}
	value, first, err := h.read(ctx)
	if err != nil {
		return nil, err
	}
	there := json.Unmarshal(value, &other) == nil
	dead := other.Instance != "" && errors.Is(askErr, nats.ErrNoResponders) // it would have answered
	if !there || dead || other.Instance != "" && other.Instance == h.instance {
		return nil, nil
	}
	for end := time.Now().Add(deathAfter); time.Now().Before(end); {
		if !Sleep(ctx, deathLook) {
			return nil, ctx.Err()
		}
		value, now, err := h.read(ctx)
		if err != nil {
			return nil, err
		}
		var again Node
		if now != first && json.Unmarshal(value, &again) == nil {
			return &again, nil
		}
	}
	return nil, nil
}

func (h *holder) read(ctx context.Context) (value []byte, revision uint64, err error) {
	return ReadKey(ctx, h.js, BucketNodes, h.node.Key())
}

func (h *holder) write(ctx context.Context, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, HeartbeatEvery)
	defer cancel()
	data, err := json.Marshal(h.node)
	if err != nil {
		return err
	}
	ack, err := h.js.Publish(ctx, h.subject(), data, jetstream.WithExpectLastSequencePerSubject(revision))
	if err != nil {
		return err
	}
	h.revision = ack.Sequence
	h.answer(data)
	return nil
}

func (h *holder) subject() string { return KeySubject(BucketNodes, h.node.Key()) }

// answer says that the name is taken, and by which node.
func (h *holder) answer(node []byte) {
	h.said.Store(&node)
	if h.answers != nil {
		return
	}
	sub, err := h.js.Conn().Subscribe(HolderSubject(h.node.Role, h.node.Name), func(m *nats.Msg) { _ = m.Respond(*h.said.Load()) })
	if err == nil {
		h.answers = sub
	}
}

func (h *holder) silence() {
	if h.answers != nil {
		_ = h.answers.Unsubscribe()
		h.answers = nil
	}
}

// leave removes our entry, and no other.
func (h *holder) leave() {
	h.silence()
	if h.revision == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	msg := nats.NewMsg(h.subject())
	msg.Header.Set("KV-Operation", "PURGE") // as KeyValue.Purge does
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, _ = h.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(h.revision)) // else it expires
}
