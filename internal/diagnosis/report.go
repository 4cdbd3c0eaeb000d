// Package diagnosis says how a cluster of Boosters, workers and agents is, and what is wrong with it. It asks the bus alone.
package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Report is everything that `status` knows; its JSON form is a public interface.
type Report struct {
	At       time.Time     `json:"at"`     // by the clock of the Booster
	Server   string        `json:"server"` // the NATS server that answered
	Boosters []bus.Node    `json:"boosters"`
	Streams  []StreamState `json:"streams"`
	Work     *WorkState    `json:"work"` // null while WORK or its consumer does not exist
	Workers  []bus.Node    `json:"workers"`
	Agents   []bus.Node    `json:"agents"`
	Away     []AwayServer  `json:"away"` // servers that were there and are silent
	Problems []Problem     `json:"problems"`

	Waits

	store patchStore

	Health string `json:"health"` // good, warnings or no service: exit codes 0, 3 and 4
}

// Waits are the patches that do not go on by themselves.
type Waits struct {
	Rollouts []WaitingRollout `json:"rollouts"` // those that wait for somebody
	Lost     []LostPatch      `json:"lost"`     // patches that servers wait for and cannot get
}

// StreamState is how full a stream is.
type StreamState struct {
	Name       string  `json:"name"`
	Missing    bool    `json:"missing"`
	Messages   uint64  `json:"messages"`
	Bytes      uint64  `json:"bytes"`
	LimitBytes int64   `json:"limit_bytes"` // 0: none
	Full       float64 `json:"full"`        // 0 to 1, of the limit that is nearer: bytes or messages
}

// WorkState is how many steps wait and run.
type WorkState struct {
	Waiting          uint64        `json:"waiting"`     // no worker has them yet
	Delivered        int           `json:"delivered"`   // workers have them, running or delayed
	Running          int           `json:"running"`     // by the last heartbeats of the workers
	Delayed          int           `json:"delayed"`     // delivered and not running: they wait for their next try
	Redelivered      int           `json:"redelivered"` // of those delivered: not for the first time
	Dead             uint64        `json:"dead"`
	OldestWaiting    *bus.StepInfo `json:"oldest_waiting"`
	OldestUnfinished *bus.StepInfo `json:"oldest_unfinished"` // waiting or not
}

// shownStreams are those whose fill a person should see.
var shownStreams = []string{
	bus.StreamWork, bus.StreamDead, bus.StreamPatch, bus.ObjectStream(bus.ObjectPatches),
	bus.BucketStream(bus.BucketRollout),
}

// Gather asks the Booster. What does not exist yet, or cannot be told without a majority, becomes a problem in the
// report; no answer is an error.
func Gather(ctx context.Context, c *bus.Client) (Report, error) {
	r := Report{
		At: time.Now().UTC(), Server: c.NC.ConnectedServerName(),
		Boosters: []bus.Node{}, Streams: []StreamState{}, Workers: []bus.Node{}, Agents: []bus.Node{}, Away: []AwayServer{},
		Waits: Waits{Rollouts: []WaitingRollout{}, Lost: []LostPatch{}},
	}
	cluster := bus.AskCluster(ctx, c.NC)
	var why *bus.NoMajorityError
	if errors.As(cluster.Err(), &why) {
		r.stuck(cluster, why)
		return r, nil
	}
	for _, name := range shownStreams {
		stream, err := bus.OpenStream(ctx, c.JS, name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			r.Streams = append(r.Streams, StreamState{Name: name, Missing: true})
			continue
		case err != nil:
			return r, fmt.Errorf("%w: %w", bus.ErrNoBooster, err)
		}
		info := stream.CachedInfo()
		r.At = info.TimeStamp.UTC()
		r.Streams = append(r.Streams, describeStream(info))
		if name == bus.StreamWork {
			if r.Work, err = gatherWork(ctx, stream); err != nil {
				return r, err
			}
		}
	}
	if err := r.gatherNodes(ctx, c); err != nil {
		return r, err
	}
	if err := r.gatherAway(ctx, c); err != nil {
		return r, err
	}
	var err error
	if r.Rollouts, err = waitingRollouts(ctx, c); err != nil {
		return r, err
	}
	if r.store, err = readPatchStore(ctx, c, r.Agents); err != nil {
		return r, err
	}
	r.Lost = append(r.Lost, r.store.lost...)
	r.show(cluster)
	r.Conclude()
	return r, nil
}

func describeStream(info *jetstream.StreamInfo) StreamState {
	s := StreamState{Name: info.Config.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes}
	if info.Config.MaxBytes > 0 {
		s.LimitBytes = info.Config.MaxBytes
		s.Full = float64(s.Bytes) / float64(s.LimitBytes)
	}
	if info.Config.MaxMsgs > 0 {
		s.Full = max(s.Full, float64(s.Messages)/float64(info.Config.MaxMsgs))
	}
	return s
}

// gatherWork returns nil while the workers' consumer does not exist.
func gatherWork(ctx context.Context, stream jetstream.Stream) (*WorkState, error) {
	call, cancel := ask(ctx)
	defer cancel()
	consumer, err := stream.Consumer(call, bus.ConsumerWorkers)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up consumer %s of %s: %w", bus.ConsumerWorkers, bus.StreamWork, err)
	}
	info := consumer.CachedInfo()
	state := &WorkState{Waiting: info.NumPending, Delivered: info.NumAckPending, Redelivered: info.NumRedelivered}
	if state.OldestUnfinished, err = firstStep(ctx, stream, 1); err != nil {
		return nil, err
	}
	if state.Waiting > 0 {
		state.OldestWaiting, err = firstStep(ctx, stream, info.Delivered.Stream+1)
	}
	return state, err
}

// firstStep returns the first step at or after a sequence, or nil if there is none.
func firstStep(ctx context.Context, stream jetstream.Stream, from uint64) (*bus.StepInfo, error) {
	m, err := bus.NextMessage(ctx, stream, bus.Subject(bus.WorkSubject).Filter(bus.Selection{}), from)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := bus.DescribeStep(m)
	return &s, nil
}

func (r *Report) gatherNodes(ctx context.Context, c *bus.Client) error {
	nodes, err := LivingNodes(ctx, c)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil // nobody can be seen yet, which the problems say
	}
	if err != nil {
		return err
	}
	r.sort(nodes)
	return nil
}

func (r *Report) gatherAway(ctx context.Context, c *bus.Client) (err error) {
	r.Away, err = AwayServers(ctx, c, r.Agents)
	return err
}

// Conclude fills in what no single source knows, and finds what is wrong. It looks at nothing but the report.
func (r *Report) Conclude() {
	r.combine()
	r.Problems = findProblems(*r)
	r.judge()
}

func (r *Report) combine() {
	if r.Work == nil {
		return
	}
	r.Work.Running = 0
	for _, n := range r.Workers {
		if n.Worker != nil {
			r.Work.Running += n.Worker.Running
		}
	}
	r.Work.Delayed = max(0, r.Work.Delivered-r.Work.Running) // the heartbeats are older than the consumer's number
	for _, s := range r.Streams {
		if s.Name == bus.StreamDead {
			r.Work.Dead = s.Messages
		}
	}
}
