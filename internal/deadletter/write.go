package deadletter

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Write copies a step that is on WORK to DEAD. Its message on WORK, and its row, stay.
func Write(ctx context.Context, js jetstream.JetStream, queued *nats.Msg, d bus.Death) error {
	_, err := js.PublishMsg(ctx, bus.DeadCopy(queued, d))
	return err
}

// WriteUnqueued writes a step to DEAD that cannot be queued, so that it is seen.
func WriteUnqueued(ctx context.Context, js jetstream.JetStream, step bus.StepMessage, d bus.Death) error {
	_, err := js.PublishMsg(ctx, step.Dead(d))
	return err
}

// Find returns the message on DEAD of a step whose message is on WORK.
func Find(ctx context.Context, js jetstream.JetStream, queued *nats.Msg) (*jetstream.RawStreamMsg, error) {
	stream, err := js.Stream(ctx, bus.StreamDead)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", bus.StreamDead, err)
	}
	return stream.GetLastMsgForSubject(ctx, bus.DeadPlace(queued.Subject))
}
