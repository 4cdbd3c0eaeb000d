package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// AskAll sends a question to everybody who listens on subject, and hands each answer to take until that has enough of them or
// ctx ends. How many there are nobody knows, so ctx needs a deadline; that it ends is no error.
func AskAll(ctx context.Context, nc *nats.Conn, subject string, question []byte, take func(answer []byte) (enough bool)) error {
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(subject, inbox, question); err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("ask %s: %w", subject, err)
		case take(msg.Data):
			return nil
		}
	}
}
