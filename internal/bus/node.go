package bus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/uploads"
)

// HeartbeatEvery is how often a node writes its entry in NODES.
const HeartbeatEvery = 2 * time.Second

// Node is the heartbeat of a booster, worker or agent, as JSON in NODES under <role>.<name>.
type Node struct {
	Role    string    `json:"role"` // booster, worker or agent
	Name    string    `json:"name"`
	Host    string    `json:"host"`
	Address string    `json:"address,omitempty"` // of that host, as the Booster sees it
	PID     int       `json:"pid"`
	Version string    `json:"version"` // of omflow-booster
	Started time.Time `json:"started"`
	At      time.Time `json:"at"` // of this heartbeat, by the node's own clock

	Instance string `json:"instance,omitempty"` // of the process; empty: an older program

	Booster *BoosterState `json:"booster,omitempty"`
	Worker  *WorkerState  `json:"worker,omitempty"`
	Agent   *AgentState   `json:"agent,omitempty"`
}

// Modes of a Booster.
const (
	ModeStandalone = "standalone" // the only one
	ModeCluster    = "cluster"    // one of two
)

// Duties of a Booster.
const (
	DutyActive  = "active"  // leads WORK
	DutyStandby = "standby" // holds a copy and follows
)

// TakeoverOK is what an active Booster says of a takeover that is possible.
const TakeoverOK = "ok"

// BoosterState is what a Booster says of itself.
type BoosterState struct {
	Mode       string `json:"mode"`
	Duty       string `json:"duty"`     // active or standby
	Takeover   string `json:"takeover"` // ok, or why the other Booster could not take over now
	Address    string `json:"address"`
	Sync       string `json:"sync"` // how often the store is flushed to disk: always, or an interval
	StoreBytes int64  `json:"store_bytes"`
	// by its settings and its disk; the streams of a cluster fill what the least of its members allows
	StoreLimit int64    `json:"store_limit"`
	FreeBytes  int64    `json:"free_bytes"` // on the disk of the store
	Hosts      []string `json:"hosts"`      // addresses of its host
	Notes      []string `json:"notes"`      // of the active: what an operator should know
}

// WorkerState is what a worker says of itself. Counters start at zero with the process.
type WorkerState struct {
	Server   string `json:"server"` // name of the agent that started it, if any
	Executor string `json:"executor"`
	Slots    int    `json:"slots"`
	Running  int    `json:"running"`
	WorkerCounts
	WorkerDatabase
	Reconciler bool `json:"reconciler"` // holds the reconciler lock

	Uploads *uploads.State `json:"uploads,omitempty"` // the directory of the server's uploaded files, if that is known
}

// WorkerCounts are what a worker has done since it started.
type WorkerCounts struct {
	Done        int64 `json:"done"`
	InHand      int64 `json:"in_hand"` // steps that ran without a message, right after the step that they follow
	Failed      int64 `json:"failed"`  // attempts that failed
	Dead        int64 `json:"dead"`
	Redelivered int64 `json:"redelivered"` // deliveries that were not the first
	Skipped     int64 `json:"skipped"`     // deliveries whose row was gone: done already
}

// WorkerDatabase is the database that a worker uses.
type WorkerDatabase struct {
	Database   string `json:"database"`    // ok, or what is wrong
	DatabaseID string `json:"database_id"` // see Database
	Place      string `json:"database_place"`
}

// PatchesStopped begins an AgentPatches.PatchState: this agent applies and publishes nothing until somebody has looked.
const PatchesStopped = "stopped: "

// AgentState is what an agent says of its OMFLOW Server.
type AgentState struct {
	OS          string `json:"os"`           // of its host: linux or windows
	HomeVersion string `json:"home_version"` // of the OMFLOW Server, from its version file
	AgentPatches
	Drift      int    `json:"drift"`       // files of the home that were changed here, and are not what the last patch has left
	Stays      int    `json:"stays"`       // files and directories of the home that cannot be carried to other servers
	PatchNext  string `json:"patch_next"`  // id of the patch that is checked and waits for its turn
	PatchWants string `json:"patch_wants"` // id of the patch whose artifact it waits to fetch: a large one is not fetched by all at once
	AgentChildren
	AgentChanges
	AgentWitness
	LastError string `json:"last_error"` // of a child that ended by itself
}

// AgentPatches is where the home stands in the order of patches.
type AgentPatches struct {
	PatchSeq    uint64 `json:"patch_seq"`    // last message of PATCH that was dealt with
	PatchState  string `json:"patch_state"`  // current, applying, or waiting, stopped, failed or rolled back: <reason>
	PatchAsks   bool   `json:"patch_asks"`   // the reason is one that only a person can end
	PatchStream string `json:"patch_stream"` // RFC 3339: creation time of the PATCH that PatchSeq belongs to
}

// AgentChildren are the processes that an agent runs: the OMFLOW Server and the worker.
type AgentChildren struct {
	Server    string `json:"server_state"` // running, stopped, starting, failing, none
	Worker    string `json:"worker_state"` // the same for the worker
	ServerPID int    `json:"server_pid"`   // 0 when it does not run
	WorkerPID int    `json:"worker_pid"`   // 0 when it does not run
	Restarts  int    `json:"restarts"`     // of both, since the agent started
	Cordoned  bool   `json:"cordoned"`     // takes no steps, by order of an operator
}

// AgentChanges are the changes in a home that the agent has not published.
type AgentChanges struct {
	StaysFirst DriftStay `json:"stays_first"` // the first of AgentState.Stays
	Held       string    `json:"held"`        // why changes in its home are not published before somebody orders it; empty otherwise
	Moving     string    `json:"moving"`      // a file of its home that is being written, and that what was changed waits for; empty otherwise
	Baseline   string    `json:"baseline"`    // Drift.Baseline; empty if nothing is watched
}

// AgentWitness is whether an agent may run the witness, and the one that it runs.
type AgentWitness struct {
	Witness        string `json:"witness"`         // AGENT_WITNESS: auto, on or off
	WitnessAddress string `json:"witness_address"` // host:port where the Boosters would reach a witness here
	WitnessState   string `json:"witness_state"`   // none, running, failing
	WitnessBytes   int64  `json:"witness_bytes"`   // of its copies
	WitnessFree    int64  `json:"witness_free"`    // bytes on the disk where its copies are, or would be; 0: not known
	WitnessPID     int    `json:"witness_pid"`     // 0 when it does not run
}

// Key is the node's key in NODES.
func (n Node) Key() string { return Token(n.Role) + "." + Token(n.Name) }

// Heartbeat writes what describe returns to NODES every HeartbeatEvery, and whenever something comes from news, until ctx ends,
// and then removes the entry and returns nil. It returns a *CloneError when another living node has the name; that one's entry
// is left alone. news may be nil. A Booster that is away is waited for; the entry is back with the first heartbeat after its
// return.
func Heartbeat(ctx context.Context, js jetstream.JetStream, log zerolog.Logger, news <-chan struct{}, describe func() Node) error {
	tick := time.NewTicker(HeartbeatEvery)
	defer tick.Stop()
	h := &holder{js: js, instance: rand.Text()}
	defer h.leave()
	missed := false
	for {
		err := Away(js.Conn())
		if err == nil {
			err = h.beat(ctx, describe())
		}
		var clone *CloneError
		if errors.As(err, &clone) {
			return clone
		}
		if failed := err != nil && ctx.Err() == nil; failed != missed {
			missed = failed
			if failed {
				log.Warn().Err(err).Msg("heartbeat not written")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		case <-tick.C:
		}
	}
}

// Nodes returns the living nodes, sorted by role and name, or jetstream.ErrBucketNotFound before a Booster has made the bucket.
//
// It asks for the keys and reads each, and makes no consumer as a watch or a list of keys would: in a cluster a consumer is a
// decision of all members, and a few callers a second that look at the nodes kept the members from everything else (measured:
// 60 decisions a second, and a replaced witness that did not get its copy of this bucket for a minute and a half).
func Nodes(ctx context.Context, js jetstream.JetStream) ([]Node, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	entries, err := ReadAll(ctx, js, BucketNodes, ">")
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, 0, len(entries))
	for _, e := range entries {
		var n Node
		if json.Unmarshal(e.Value, &n) == nil { // a node that has left wrote an empty one
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}
