package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// What the active Booster asks each member for, in the system account, which no client reaches: audit.<what>.<member>.
const (
	askState   = "state"   // replicaState
	askContent = "content" // contentQuestion, contentAnswer
	askRebuild = "rebuild" // a stream: put its copy aside, start again without it
	askDiscard = "discard" // a stream: the copy that was put aside is not needed any more
	AskFlush   = "flush"   // nothing: make durable what a restore has stored; the growth asks for it
)

// version is what a member understands of the audit: how contents are told apart, above all. Copies of members of another
// version are not compared, because everything would seem to differ.
const version = 1

// replicaState is what a member says of its copies.
type replicaState struct {
	Version int                    `json:"version"` // its version; 0 of a former release, which is 1
	Life    string                 `json:"life"`    // another one after each start
	Aside   []string               `json:"aside"`
	Streams map[string]replicaCopy `json:"streams"`
	Error   string                 `json:"error,omitempty"`
}

// comparable tells whether contents of both are told apart in the same way.
func (s replicaState) comparable() bool { return max(s.Version, 1) == version }

// replicaCopy is one copy at one place of the stream's log, which is the same log for every member.
type replicaCopy struct {
	Applied  uint64 `json:"applied"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

type contentQuestion struct {
	Stream string `json:"stream"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"` // not included
}

type contentAnswer struct {
	Contents   []byte `json:"contents"`
	Next       uint64 `json:"next"` // first message at or after To, or 0
	Unreadable string `json:"unreadable,omitempty"`
	Error      string `json:"error,omitempty"`
}

// Rebuild ends the life of a member's server, so that it starts again without its copy of a stream.
type Rebuild struct{ Stream, Group string }

func (r Rebuild) Error() string { return "the copy of " + r.Stream + " differs and is rebuilt" }

// Store is what a Replica needs of the data directory of its member.
type Store interface {
	// Aside are the streams of which a copy was put aside.
	Aside() []string
	// Discard removes the copy of a stream that was put aside.
	Discard(stream string) error
	// Flush makes durable what the server has stored.
	Flush() error
}

// Replica answers the audit for one member, as long as its server lives.
type Replica struct {
	server *server.Server
	store  Store
	log    zerolog.Logger
	life   string
	end    context.CancelCauseFunc
}

// NewReplica makes a Replica of a server that runs. It answers nothing before Answer.
func NewReplica(s *server.Server, store Store, log zerolog.Logger) (*Replica, error) {
	switch {
	case s == nil:
		return nil, errors.New("answer the audit: no server; start it first")
	case store == nil:
		return nil, errors.New("answer the audit: no store; open it first")
	}
	return &Replica{server: s, store: store, log: log, life: time.Now().UTC().Format(time.RFC3339Nano)}, nil
}

// Answer answers until the connection, which is one in the system account, is closed. It calls end with a Rebuild when the
// member must start again.
func (r *Replica) Answer(sys *nats.Conn, end context.CancelCauseFunc) error {
	r.end = end
	for what, answer := range map[string]func(*nats.Msg) any{
		askState:   func(*nats.Msg) any { return r.state() },
		askContent: func(m *nats.Msg) any { return r.content(m.Data) },
		askRebuild: func(m *nats.Msg) any { return outcome(r.rebuild(string(m.Data))) },
		askDiscard: func(m *nats.Msg) any { return outcome(r.store.Discard(string(m.Data))) },
		AskFlush:   func(*nats.Msg) any { return outcome(r.store.Flush()) },
	} {
		_, err := sys.Subscribe(bus.AuditSubject(what, r.server.Name()), func(m *nats.Msg) {
			if data, err := json.Marshal(answer(m)); err == nil {
				_ = m.Respond(data) // unanswered, it is asked again
			}
		})
		if err != nil {
			return fmt.Errorf("answer the audit: %w", err)
		}
	}
	return nil
}

// outcome has the shape of every answer that may be an error.
func outcome(err error) any {
	if err == nil {
		return struct{}{}
	}
	return struct {
		Error string `json:"error"`
	}{err.Error()}
}

func (r *Replica) state() replicaState {
	state := replicaState{Version: version, Life: r.life, Aside: r.store.Aside(), Streams: map[string]replicaCopy{}}
	streams, err := r.streams()
	if err != nil {
		state.Error = err.Error()
	}
	for stream, group := range streams {
		store, err := localStore(r.server, stream)
		if err != nil {
			continue // it went meanwhile
		}
		if c, ok := r.copy(store, group); ok {
			state.Streams[stream] = c
		}
	}
	return state
}

// streams are the streams of which this member has a copy, and the groups in which they are kept equal.
func (r *Replica) streams() (groups map[string]string, err error) {
	account, err := r.server.JszAccount(&server.JSzOptions{Account: server.DEFAULT_GLOBAL_ACCOUNT, Streams: true, RaftGroups: true})
	if err != nil {
		return nil, fmt.Errorf("own copies: %w", err)
	}
	groups = map[string]string{}
	for _, s := range account.Streams {
		if s.RaftGroup != "" {
			groups[s.Name] = s.RaftGroup
		}
	}
	return groups, nil
}

// copy reads the counts at one place of the log. It gives up when the log never stands still.
func (r *Replica) copy(store server.StreamStore, group string) (c replicaCopy, ok bool) {
	for range 10 {
		before, there := r.applied(group)
		if !there {
			return c, false
		}
		var state server.StreamState
		store.FastState(&state)
		c = replicaCopy{before, state.FirstSeq, state.LastSeq, state.Msgs, state.Bytes}
		if after, _ := r.applied(group); after == before {
			break
		}
	}
	return c, true
}

// applied is how far this member has followed the log of a group.
func (r *Replica) applied(group string) (index uint64, ok bool) {
	info := r.server.Raftz(&server.RaftzOptions{AccountFilter: server.DEFAULT_GLOBAL_ACCOUNT, GroupFilter: group})
	if info == nil {
		return 0, false
	}
	for _, groups := range *info {
		if g, there := groups[group]; there {
			return g.Applied, true
		}
	}
	return 0, false
}

func (r *Replica) content(data []byte) (answer contentAnswer) {
	var q contentQuestion
	err := json.Unmarshal(data, &q)
	if err == nil && (q.To < q.From || q.To-q.From > contentSpan) {
		err = fmt.Errorf("%d to %d is not a window", q.From, q.To)
	}
	var store server.StreamStore
	if err == nil {
		store, err = localStore(r.server, q.Stream)
	}
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	found, next, unreadable := readContents(store, q.From, q.To)
	answer.Contents, answer.Next = found.pack(), next
	if unreadable != nil {
		answer.Unreadable = unreadable.Error()
		r.log.Error().Str("stream", q.Stream).Err(unreadable).Msg("own copy is damaged")
	}
	return answer
}

// rebuild has this member start again without its copy of a stream. Killed before that, it is asked again.
func (r *Replica) rebuild(stream string) error {
	streams, err := r.streams()
	if err != nil {
		return err
	}
	group := streams[stream]
	switch {
	case group == "":
		return fmt.Errorf("no copy of %q", stream)
	case r.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream):
		return fmt.Errorf("this member leads %s", stream)
	}
	r.log.Error().Str("stream", stream).Msg("own copy differs from the others: starting again without it")
	r.end(Rebuild{stream, group})
	return nil
}
