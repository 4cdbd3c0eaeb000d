package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// What the active asks each member for, in the system account, which no client reaches: audit.<what>.<member>.
const (
	askState   = "state"   // replicaState
	askContent = "content" // contentQuestion, contentAnswer
	askRebuild = "rebuild" // a stream: put its copy aside, start again without it
	askDiscard = "discard" // a stream: the copy that was put aside is not needed any more
	askFlush   = "flush"   // nothing: make durable what a restore has stored, see grow.go
)

// auditVersion is what a member understands of the audit: how contents are told apart, above all. Copies of members of another
// version are not compared, because everything would seem to differ.
const auditVersion = 1

// replicaState is what a member says of its copies.
type replicaState struct {
	Version int                    `json:"version"` // its auditVersion; 0 of a former release, which is 1
	Life    string                 `json:"life"`    // another one after each start
	Aside   []string               `json:"aside"`
	Streams map[string]replicaCopy `json:"streams"`
	Error   string                 `json:"error,omitempty"`
}

// comparable tells whether contents of both are told apart in the same way.
func (s replicaState) comparable() bool { return max(s.Version, 1) == auditVersion }

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

// rebuild ends the life of a member's server, so that it starts again without its copy of a stream.
type rebuild struct{ stream, group string }

func (r rebuild) Error() string { return "the copy of " + r.stream + " differs and is rebuilt" }

// replica answers the audit for this member.
type replica struct {
	*node
	store *store
	log   zerolog.Logger
	life  string
	end   context.CancelCauseFunc
}

// answerAudit answers until the node is stopped. end is called with a rebuild when the member must start again.
func answerAudit(n *node, s *store, log zerolog.Logger, end context.CancelCauseFunc) error {
	r := &replica{node: n, store: s, log: log, life: time.Now().UTC().Format(time.RFC3339Nano), end: end}
	for what, answer := range map[string]func(*nats.Msg) any{
		askState:   func(*nats.Msg) any { return r.state() },
		askContent: func(m *nats.Msg) any { return r.content(m.Data) },
		askRebuild: func(m *nats.Msg) any { return outcome(r.rebuild(string(m.Data))) },
		askDiscard: func(m *nats.Msg) any { return outcome(r.store.discard(string(m.Data))) },
		askFlush:   func(*nats.Msg) any { return outcome(syncTree(r.store.path(storeName))) },
	} {
		_, err := n.sys.Subscribe(bus.AuditSubject(what, n.opts.ServerName), func(m *nats.Msg) {
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

func (r *replica) state() replicaState {
	state := replicaState{Version: auditVersion, Life: r.life, Aside: r.store.aside(), Streams: map[string]replicaCopy{}}
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
func (r *replica) streams() (groups map[string]string, err error) {
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
func (r *replica) copy(store server.StreamStore, group string) (c replicaCopy, ok bool) {
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
func (r *replica) applied(group string) (index uint64, ok bool) {
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

func (r *replica) content(data []byte) (answer contentAnswer) {
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
func (r *replica) rebuild(stream string) error {
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
	r.end(rebuild{stream, group})
	return nil
}
