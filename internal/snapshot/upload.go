package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// A server that flushes every message to disk needs seconds for a large chunk on a slow machine, and gives a restore up after five.
	uploadBytes = 32 << 10

	window    = 8               // chunks on their way; two would do to keep a server busy that flushes every message to disk
	lastWords = 5 * time.Minute // after the last chunk: the server may have to flush, and a cluster to agree
)

// remove deletes a stream. One that is gone is fine.
func (l link) remove(ctx context.Context, stream string) error {
	var answer struct{}
	if err := l.ask(ctx, "STREAM.DELETE."+stream, struct{}{}, &answer); err != nil && !isNotFound(err) {
		return fmt.Errorf("remove what is there: %w", err)
	}
	return nil
}

// upload sends a stream's file to the server, which must not have a stream of that name, and returns the stream as it is then. When it ends
// in the middle a server may keep what it has.
func (l link) upload(ctx context.Context, s Stream, config json.RawMessage, in io.Reader, passed func(n int)) (described, error) {
	u := upload{transfer: l.transfer(), ctx: ctx}
	var begin struct {
		Subject string `json:"deliver_subject"`
	}
	request := map[string]any{"config": config, "state": state{
		Messages: s.Messages, Bytes: s.Bytes, FirstSeq: s.FirstSeq, FirstTime: s.FirstTime,
		LastSeq: s.LastSeq, LastTime: s.LastTime, Consumers: len(s.Consumers),
	}}
	if err := l.ask(ctx, "STREAM.RESTORE."+s.Name, request, &begin); err != nil {
		return described{}, err
	}
	u.to, u.inbox = begin.Subject, l.nc.NewInbox()
	var err error
	if u.acks, err = l.nc.SubscribeSync(u.inbox); err != nil {
		return described{}, fmt.Errorf("%w: %w", errInterrupted, err)
	}
	defer func() { _ = u.acks.Unsubscribe() }()
	if err := u.chunks(in, passed); err != nil {
		return described{}, err
	}
	return u.finish()
}

// upload is one upload under way.
type upload struct {
	transfer
	ctx       context.Context
	to, inbox string
	acks      *nats.Subscription
	open      int // chunks that are not acknowledged
}

func (u *upload) chunks(in io.Reader, passed func(n int)) error {
	chunk := make([]byte, min(uploadBytes, u.nc.MaxPayload()))
	for {
		n, err := io.ReadFull(in, chunk)
		if n > 0 {
			if u.open == window {
				if err := u.acknowledged(); err != nil {
					return err
				}
			}
			if err := u.send(chunk[:n]); err != nil {
				return err
			}
			passed(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			for u.open > 0 {
				if err := u.acknowledged(); err != nil {
					return err
				}
			}
			return nil
		case err != nil:
			return err
		}
	}
}

func (u *upload) send(chunk []byte) error {
	if err := u.nc.PublishRequest(u.to, u.inbox, chunk); err != nil {
		return fmt.Errorf("%w: %w", errInterrupted, err)
	}
	u.open++
	return nil
}

// acknowledged waits until the server has taken one chunk more, or says why it does not.
func (u *upload) acknowledged() error {
	m, err := u.next(u.ctx, u.acks)
	switch {
	case err != nil:
		return err
	case len(m.Data) > 0:
		var answer struct{}
		if err := read(m.Data, &answer); err != nil {
			return err
		}
	case m.Header.Get(statusHeader) == statusNobody:
		return fmt.Errorf("%w: the server does not listen any more", errInterrupted)
	}
	u.open--
	return nil
}

// finish says that this was all, and waits for the server's account.
func (u *upload) finish() (described, error) {
	ctx, cancel := context.WithTimeout(u.ctx, lastWords)
	defer cancel()
	var now described
	if err := u.send(nil); err != nil {
		return now, err
	}
	for {
		m, err := u.next(ctx, u.acks)
		switch {
		case errors.Is(err, errInterrupted) && !u.broken() && ctx.Err() == nil:
			continue // still at work
		case err != nil:
			return now, err
		case m.Header.Get(statusHeader) == statusNobody:
			return now, fmt.Errorf("%w: the server does not listen any more", errInterrupted)
		}
		return now, read(m.Data, &now)
	}
}
