package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	actTimeout    = 30 * time.Second // of a request: in a cluster, members agree on it and may have to elect a leader first
	lookTimeout   = 3 * time.Second  // of one look; a question that came while there was no leader is never answered
	answerTimeout = 30 * time.Second // of looks until one is answered
	chunkBytes    = 128 << 10
	chunkIdle     = 30 * time.Second // without a chunk or its acknowledgment, a transfer is over

	brokenEvery = 250 * time.Millisecond // between looks at the connection while nothing comes

	statusHeader = "Status"
	statusOK     = "204"
	statusNobody = "503"
)

// errInterrupted is a transfer that ended in the middle: the connection or a server went away. Beginning again may help.
var errInterrupted = errors.New("transfer interrupted")

// state is what a server says of a stream; the names are those of the JetStream API.
type state struct {
	Messages  uint64    `json:"messages"`
	Bytes     uint64    `json:"bytes"`
	FirstSeq  uint64    `json:"first_seq"`
	FirstTime time.Time `json:"first_ts"`
	LastSeq   uint64    `json:"last_seq"`
	LastTime  time.Time `json:"last_ts"`
	Consumers int       `json:"consumer_count"`
}

// described is a stream as a server describes it. The configuration stays as it is: a round trip through a struct would drop the fields
// that it does not have.
type described struct {
	Config  json.RawMessage `json:"config"`
	Created time.Time       `json:"created"`
	State   state           `json:"state"`
}

// link speaks the JetStream API over a connection.
type link struct {
	nc   *nats.Conn
	idle time.Duration
}

func newLink(js jetstream.JetStream, idle time.Duration) link {
	if idle <= 0 {
		idle = chunkIdle
	}
	return link{nc: js.Conn(), idle: idle}
}

// ask sends a request to $JS.API.<subject> and reads the answer. An answer that is an error comes as *jetstream.APIError.
func (l link) ask(ctx context.Context, subject string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	m, err := l.nc.RequestWithContext(call, bus.APIPrefix+subject, data)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer to %s: %w", subject, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%w: no answer to %s: %w", errInterrupted, subject, err)
	}
	return read(m.Data, answer)
}

// read decodes an answer of the API.
func read(data []byte, answer any) error {
	var failure struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &failure); err != nil {
		return fmt.Errorf("read answer of the server: %w", err)
	}
	if failure.Error != nil {
		return failure.Error
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read answer of the server: %w", err)
	}
	return nil
}

// look asks a question, and asks it again: a cluster does not answer while a stream has no leader, nor while it holds an
// interrupted restore.
func (l link) look(ctx context.Context, subject string, answer any) error {
	for end := time.Now().Add(answerTimeout); ; {
		call, cancel := context.WithTimeoutCause(ctx, lookTimeout, errInterrupted)
		err := l.ask(call, subject, struct{}{}, answer)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, errInterrupted) || l.nc.IsClosed() || time.Now().After(end) {
			return err
		}
		if err := pause(ctx, brokenEvery); err != nil { // no responders are said at once
			return err
		}
	}
}

// info describes a stream. ok is false when there is none of that name.
func (l link) info(ctx context.Context, stream string) (d described, ok bool, err error) {
	err = l.look(ctx, "STREAM.INFO."+stream, &d)
	if isNotFound(err) {
		return d, false, nil
	}
	return d, err == nil, err
}

func isNotFound(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamNotFound || api.ErrorCode == jetstream.JSErrCodeConsumerNotFound)
}

// transfer is a link while a snapshot goes over it: it must be one connection from the beginning to the end.
type transfer struct {
	link
	reconnects uint64
}

func (l link) transfer() transfer { return transfer{link: l, reconnects: l.nc.Stats().Reconnects} }

// broken tells whether the connection is not the one that it was: what was under way is gone.
func (t transfer) broken() bool {
	return !t.nc.IsConnected() || t.nc.Stats().Reconnects != t.reconnects
}

// next waits for one message, no longer than idle.
func (t transfer) next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	for end := time.Now().Add(t.idle); ; {
		call, cancel := context.WithTimeout(ctx, min(brokenEvery, time.Until(end)))
		m, err := sub.NextMsgWithContext(call)
		cancel()
		switch {
		case err == nil:
			return m, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.Is(err, context.DeadlineExceeded):
			return nil, fmt.Errorf("%w: %w", errInterrupted, err)
		case t.broken():
			return nil, fmt.Errorf("%w: the connection was lost", errInterrupted)
		case time.Now().After(end):
			return nil, fmt.Errorf("%w: nothing came for %s", errInterrupted, t.idle)
		}
	}
}
