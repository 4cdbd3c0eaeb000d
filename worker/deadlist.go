package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// listTimeout is for the subjects of DEAD: hundreds of thousands take seconds.
const listTimeout = time.Minute

// deadList is which steps DEAD names. It is read in one go, and only when DEAD has changed: so a look at a million rows asks
// for the dead ones alone.
type deadList struct {
	js     jetstream.JetStream
	stream jetstream.Stream

	state       jetstream.StreamState // of DEAD, when it was read
	created     time.Time
	now, former map[work.ID]struct{}
}

// refresh reads the list again if DEAD has changed.
func (l *deadList) refresh(ctx context.Context) error {
	stream, err := lookAt(ctx, l.js, bus.StreamDead)
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

// names tells whether DEAD has a message of a step with this id.
func (l *deadList) names(id work.ID) bool {
	_, ok := l.now[id]
	return ok
}

// lately is names, or was in the round before: while a step goes from DEAD to WORK, or back, either may be read first.
func (l *deadList) lately(id work.ID) bool {
	_, ok := l.former[id]
	return ok || l.names(id)
}
