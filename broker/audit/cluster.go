package audit

import (
	"slices"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Cluster is what a Booster sees of its cluster at one moment.
type Cluster struct {
	Leader  string   // the member that decides on streams and members; empty when there is none
	Growing bool     // the queue is still being brought into the cluster
	Members []Member // known to the Leader only
	Streams map[string]Stream
}

// Member is one member of the cluster.
type Member struct {
	Name   string // empty while nobody knows it
	Online bool
}

// Stream says who holds a stream.
type Stream struct {
	Leader    string
	Followers []Follower
}

// Follower is a member that holds a stream and does not lead it.
type Follower struct {
	Name    string
	Current bool // it is there, and holds all of the stream
}

// isCurrent tells whether a member of a stream holds all of it.
func (s Stream) isCurrent(name string) bool {
	if s.Leader == name {
		return true
	}
	return slices.ContainsFunc(s.Followers, func(f Follower) bool { return f.Name == name && f.Current })
}

// Verdict is what the audit says of the copies; nil before it has said anything.
type Verdict struct {
	Finding string // why the other Booster must not take over; empty when nothing differs
	Soon    bool   // the pending comparison will be over in a moment: whose copy it is has been started
	pending string // what is not compared yet
}

// Verdict is what the Auditor says now. Anyone may ask at any time.
func (a *Auditor) Verdict() *Verdict { return a.verdict.Load() }

// Takeover says whether the audit has anything against a takeover, beside its Finding; bus.TakeoverOK when it has not.
func (v *Verdict) Takeover() string {
	switch {
	case v == nil:
		return "no automatic takeover yet: copies are not compared yet"
	case v.pending != "":
		return "no automatic takeover yet: " + v.pending
	}
	return bus.TakeoverOK
}
