package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// streamTimeout bounds one question about a stream of steps.
const streamTimeout = 5 * time.Second

// OpenStream looks a stream up. What the stream says of itself is then fresh in CachedInfo.
func OpenStream(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s does not exist: the Booster is not ready yet, or this is no Booster; "+
			"see `omflow-booster doctor`: %w", name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	return stream, nil
}

// Messages yields what a stream held under filter when it was opened, in sequence order, and ends with the first error.
// It reads one by one, by direct gets: a work queue allows no second consumer, and a reader must not take work away.
func Messages(ctx context.Context, stream jetstream.Stream, filter string) iter.Seq2[*jetstream.RawStreamMsg, error] {
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		last := stream.CachedInfo().State.LastSeq // a step that dies again while it is retried is not met twice
		for next := uint64(1); next <= last; {
			m, err := NextMessage(ctx, stream, filter, next)
			if errors.Is(err, jetstream.ErrMsgNotFound) || (err == nil && m.Sequence > last) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(m, nil) {
				return
			}
			next = m.Sequence + 1
		}
	}
}

// NextMessage returns the first message under filter at or after a sequence.
func NextMessage(ctx context.Context, stream jetstream.Stream, filter string, from uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	m, err := stream.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	if err != nil {
		return nil, fmt.Errorf("read %s from %d: %w", stream.CachedInfo().Config.Name, from, err)
	}
	return m, nil
}

// FindStep returns the message of a step of which only the id is known, or jetstream.ErrMsgNotFound. subject is WorkSubject or
// DeadSubject; it names the id, so the server finds the message in its index of subjects.
func FindStep(ctx context.Context, stream jetstream.Stream, subject Subject, id work.ID) (*jetstream.RawStreamMsg, error) {
	call, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	info, err := stream.Info(call, jetstream.WithSubjectFilter(subject.filter(Selection{}, id.String())))
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", id, err)
	}
	for exact := range info.State.Subjects {
		return LastMessage(ctx, stream, exact)
	}
	return nil, jetstream.ErrMsgNotFound
}

// LastMessage returns the message on an exact subject; there is one at most.
func LastMessage(ctx context.Context, stream jetstream.Stream, exact string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	m, err := stream.GetLastMsgForSubject(ctx, exact)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", exact, err)
	}
	return m, nil
}

// Selection chooses steps by what their subject says; an empty field chooses all.
type Selection struct {
	Kind string
	Flow string
}

// Subject is WorkSubject or DeadSubject.
type Subject func(kind, flow, id string) string

// Filter is a selection as a filter on the subjects of a stream.
func (subject Subject) Filter(chosen Selection) string { return subject.filter(chosen, "") }

// filter builds the subject as for a message, so that the same characters are replaced, and then opens what is not given.
func (subject Subject) filter(chosen Selection, id string) string {
	tokens := strings.Split(subject(chosen.Kind, chosen.Flow, id), ".")
	for i, given := range []string{chosen.Kind, chosen.Flow, id} {
		if given == "" {
			tokens[i+1] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// LookAt looks a stream up for a service that looks again and again. It does not wait without a connection: a request that was under
// way when the Booster died is never answered.
func LookAt(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	if err := Away(js.Conn()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", name, err)
	}
	return stream, nil
}
