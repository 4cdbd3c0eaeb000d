package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// listTimeout is for the subjects of DEAD: hundreds of thousands take seconds.
const listTimeout = time.Minute

// List knows which steps DEAD names. It reads them in one go, and only when DEAD has changed, so that a look at a million rows asks
// for the dead ones alone. It is not safe for concurrent use.
type List struct {
	js     jetstream.JetStream
	stream jetstream.Stream

	state       jetstream.StreamState // of DEAD, when it was read
	created     time.Time
	now, former map[work.ID]struct{}
}

// NewList returns a list that has read nothing yet.
func NewList(js jetstream.JetStream) *List { return &List{js: js} }

// Refresh reads the list again if DEAD has changed.
func (l *List) Refresh(ctx context.Context) error {
	stream, err := bus.LookAt(ctx, l.js, bus.StreamDead)
	if err != nil {
		return err
	}
	l.stream = stream
	info := stream.CachedInfo()
	if l.now != nil && info.Created.Equal(l.created) && info.State.LastSeq == l.state.LastSeq && info.State.Msgs == l.state.Msgs {
		l.former = l.now
		return nil
	}
	list := make(map[work.ID]struct{}, info.State.Msgs)
	if info.State.Msgs > 0 {
		call, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		full, err := stream.Info(call, jetstream.WithSubjectFilter(">"))
		if err != nil {
			return fmt.Errorf("list %s: %w", bus.StreamDead, err)
		}
		for subject := range full.State.Subjects {
			if id, err := work.ParseID(bus.SubjectID(subject)); err == nil {
				list[id] = struct{}{}
			}
		}
	}
	l.former, l.now, l.state, l.created = l.now, list, info.State, info.Created
	return nil
}

// Names tells whether DEAD has a message of a step with this id.
func (l *List) Names(id work.ID) bool {
	_, ok := l.now[id]
	return ok
}

// Lately is Names, in this round or in the one before: while a step goes from DEAD to WORK, or back, either may be read first.
func (l *List) Lately(id work.ID) bool {
	_, ok := l.former[id]
	return ok || l.Names(id)
}

// Message reads the message of a step that the list names; nil when DEAD has it no more. Call it after Refresh.
func (l *List) Message(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := bus.LastMessage(ctx, l.stream, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return m, err
}
