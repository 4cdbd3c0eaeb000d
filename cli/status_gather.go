package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// statusReport is everything that `status` knows; its JSON form is a public interface.
type statusReport struct {
	At       time.Time     `json:"at"`     // by the clock of the Booster
	Server   string        `json:"server"` // the NATS server that answered
	Boosters []bus.Node    `json:"boosters"`
	Streams  []streamState `json:"streams"`
	Work     *workState    `json:"work"` // null while WORK or its consumer does not exist
	Workers  []bus.Node    `json:"workers"`
	Agents   []bus.Node    `json:"agents"`
	Away     []awayServer  `json:"away"` // servers that were there and are silent
	Problems []problem     `json:"problems"`

	Rollouts []waitingRollout `json:"rollouts"` // those that wait for somebody

	Health string `json:"health"` // good, warnings or no service: exit codes 0, 3 and 4
}

type streamState struct {
	Name       string  `json:"name"`
	Missing    bool    `json:"missing"`
	Messages   uint64  `json:"messages"`
	Bytes      uint64  `json:"bytes"`
	LimitBytes int64   `json:"limit_bytes"` // 0: none
	Full       float64 `json:"full"`        // 0 to 1, of the limit that is nearer: bytes or messages
}

type workState struct {
	Waiting          uint64 `json:"waiting"`     // no worker has them yet
	Delivered        int    `json:"delivered"`   // workers have them, running or delayed
	Running          int    `json:"running"`     // by the last heartbeats of the workers
	Delayed          int    `json:"delayed"`     // delivered and not running: they wait for their next try
	Redelivered      int    `json:"redelivered"` // of those delivered: not for the first time
	Dead             uint64 `json:"dead"`
	OldestWaiting    *step  `json:"oldest_waiting"`
	OldestUnfinished *step  `json:"oldest_unfinished"` // waiting or not
}

// shownStreams are those whose fill a person should see.
var shownStreams = []string{
	bus.StreamWork, bus.StreamDead, bus.StreamPatch, bus.ObjectStream(bus.ObjectPatches),
	bus.BucketStream(bus.BucketRollout),
}

// gatherStatus asks the Booster. What does not exist yet, or cannot be told without a majority, becomes a problem in the
// report; no answer is an error.
func gatherStatus(ctx context.Context, c *bus.Client) (statusReport, error) {
	r := statusReport{
		At: time.Now().UTC(), Server: c.NC.ConnectedServerName(),
		Boosters: []bus.Node{}, Streams: []streamState{}, Workers: []bus.Node{}, Agents: []bus.Node{}, Away: []awayServer{},
		Rollouts: []waitingRollout{},
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
			r.Streams = append(r.Streams, streamState{Name: name, Missing: true})
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
	r.show(cluster)
	r.combine()
	r.Problems = findProblems(r)
	r.judge()
	return r, nil
}

func describeStream(info *jetstream.StreamInfo) streamState {
	s := streamState{Name: info.Config.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes}
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
func gatherWork(ctx context.Context, stream jetstream.Stream) (*workState, error) {
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
	state := &workState{Waiting: info.NumPending, Delivered: info.NumAckPending, Redelivered: info.NumRedelivered}
	if state.OldestUnfinished, err = firstStep(ctx, stream, 1); err != nil {
		return nil, err
	}
	if state.Waiting > 0 {
		state.OldestWaiting, err = firstStep(ctx, stream, info.Delivered.Stream+1)
	}
	return state, err
}

// firstStep returns the first step at or after a sequence, or nil if there is none.
func firstStep(ctx context.Context, stream jetstream.Stream, from uint64) (*step, error) {
	m, err := bus.NextMessage(ctx, stream, bus.Subject(bus.WorkSubject).Filter(bus.Selection{}), from)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := describeStep(m)
	return &s, nil
}

func (r *statusReport) gatherNodes(ctx context.Context, c *bus.Client) error {
	nodes, err := livingNodes(ctx, c)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil // nobody can be seen yet, which the problems say
	}
	if err != nil {
		return err
	}
	for _, n := range nodes {
		switch n.Role {
		case bus.ServiceBooster:
			r.Boosters = append(r.Boosters, n)
		case bus.ServiceWorker:
			r.Workers = append(r.Workers, n)
		case bus.ServiceAgent:
			r.Agents = append(r.Agents, n)
		}
	}
	return nil
}

// awayServer is an OMFLOW Server whose agent does not answer.
type awayServer struct {
	Name string    `json:"name"`
	Seen time.Time `json:"seen"` // it was heard up to an hour later than that
	Runs bool      `json:"runs"` // its agent started an OMFLOW Server
}

func (r *statusReport) gatherAway(ctx context.Context, c *bus.Client) (err error) {
	r.Away, err = awayServers(ctx, c, r.Agents)
	return err
}

// awayServers are the servers that were there and whose agent is not among the living nodes, never nil.
func awayServers(ctx context.Context, c *bus.Client, living []bus.Node) ([]awayServer, error) {
	away := []awayServer{}
	call, cancel := ask(ctx)
	defer cancel()
	list, err := rollout.Roster(call, c.JS)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return away, nil
	}
	if err != nil {
		return away, err
	}
	for _, k := range list {
		if !slices.ContainsFunc(living, func(n bus.Node) bool { return n.Role == bus.ServiceAgent && n.Name == k.Name }) {
			away = append(away, awayServer{Name: k.Name, Seen: k.Seen, Runs: k.Runs})
		}
	}
	return away, nil
}

// holdsPatches tells whether a stream holds something of patches, which goes when every server is through with them.
func holdsPatches(stream string) bool {
	return stream == bus.StreamPatch || stream == bus.ObjectStream(bus.ObjectPatches) || stream == bus.BucketStream(bus.BucketRollout)
}

// combine fills in what no single source knows.
func (r *statusReport) combine() {
	if r.Work == nil {
		return
	}
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

// percent writes a share from 0 to 1.
func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', 0, 64) + " %" }
