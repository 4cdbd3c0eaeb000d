package rollout

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// silentFor is how long a node may be silent before it does not count as alive.
const silentFor = 4 * bus.HeartbeatEvery

// Member is a living node, as a decision sees it.
type Member struct {
	Name    string
	Next    string    // the patch that it has checked and waits for, or is at
	Wants   string    // the patch that it waits to fetch
	Serving bool      // its server runs, or it has none
	Runs    bool      // it has a server
	At      time.Time // when it said so
	Stream  string    // AgentState.PatchStream
	Seq     uint64    // AgentState.PatchSeq
}

// members are the agents whose heartbeats go by, on their way into NODES: as long as no patch is under way, nobody is asked for anything.
type members struct {
	mu    sync.Mutex
	heard map[string]Member // by subject
}

func (m *members) listen(nc *nats.Conn) (stop func(), err error) {
	m.heard = map[string]Member{}
	sub, err := nc.Subscribe(bus.KeySubject(bus.BucketNodes, bus.ServiceAgent+".*"), m.hear)
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

func (m *members) hear(msg *nats.Msg) {
	var n bus.Node
	err := json.Unmarshal(msg.Data, &n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || n.Agent == nil {
		delete(m.heard, msg.Subject) // it has left
		return
	}
	serving := n.Agent.Server != "failing" && n.Agent.Server != "stopped"
	m.heard[msg.Subject] = Member{
		Name: n.Name, Next: n.Agent.PatchNext, Wants: n.Agent.PatchWants, Serving: serving, Runs: n.Agent.Server != "none", At: time.Now(),
		Stream: n.Agent.PatchStream, Seq: n.Agent.PatchSeq,
	}
}

// alive are those that were heard lately, by name.
func (m *members) alive(now time.Time) (list []Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.heard {
		if now.Sub(h.At) < silentFor {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return list
}
