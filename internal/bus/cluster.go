package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// SubjectCluster is where every Booster says how it sees its cluster. It needs no stream, so one that has no majority answers, too.
const SubjectCluster = "booster.cluster"

// clusterTimeout is how long answers are waited for when one is missing: a Booster that is frozen gives none.
const clusterTimeout = 2 * time.Second

// ClusterState is how one Booster sees its cluster. A single one has a majority and no other members.
type ClusterState struct {
	Node              // what its heartbeat would say now
	Majority bool     `json:"majority"` // enough members are there for steps to be taken and accepted
	Lost     Moment   `json:"lost"`     // since when they are not
	Members  []Member `json:"members"`  // the others, as far as they are known
}

// Member is another member of a Booster's cluster.
type Member struct {
	Name    string `json:"name"` // empty while it was not seen yet
	Role    string `json:"role"` // booster or witness
	Address string `json:"address"`
	There   bool   `json:"there"` // there is a connection to it
	Seen    Moment `json:"seen"`  // when there was one last; zero: not since this Booster was started
}

// RoleWitness is the role of a Member that only votes.
const RoleWitness = "witness"

// Moment is a time that may not have come: JSON null.
type Moment struct{ time.Time }

// MarshalJSON writes null for the zero time.
func (m Moment) MarshalJSON() ([]byte, error) {
	if m.IsZero() {
		return []byte("null"), nil
	}
	return m.Time.MarshalJSON()
}

// Cluster is what the Boosters that answer say, in the order of their answers.
type Cluster []ClusterState

// AskCluster asks the Boosters that can be reached by a connection. Nobody answers in a NATS cluster of one's own.
func AskCluster(ctx context.Context, nc *nats.Conn) (c Cluster) {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	_ = AskAll(ctx, nc, SubjectCluster, nil, func(answer []byte) bool {
		var s ClusterState
		if json.Unmarshal(answer, &s) == nil && s.Name != "" {
			c = append(c, s)
		}
		return len(c) == c.expected()
	})
	return c
}

// expected is how many answers there should be: that of nobody is awaited of whom no answer tells.
func (c Cluster) expected() (n int) {
	for _, s := range c {
		boosters := 1
		for _, m := range s.Members {
			if m.Role == ServiceBooster && m.There {
				boosters++
			}
		}
		n = max(n, boosters)
	}
	return n
}

// Stuck tells whether Boosters answer, and none of them has a majority.
func (c Cluster) Stuck() bool {
	for _, s := range c {
		if s.Majority {
			return false
		}
	}
	return len(c) > 0
}

// Active is the name of the active Booster, or empty. Only one can be active at a time, so the later answer is right.
func (c Cluster) Active() (name string) {
	for _, s := range c {
		if s.Booster != nil && s.Booster.Duty == DutyActive {
			name = s.Name
		}
	}
	return name
}

// Missing are the members that no Booster is connected to.
func (c Cluster) Missing() (missing []Member) {
	for _, s := range c {
		for _, m := range s.Members {
			if !m.There {
				missing = append(missing, m)
			}
		}
	}
	return missing
}

// NoMajorityError is the state of Boosters that answer and cannot do anything.
type NoMajorityError struct {
	Since   time.Time
	Here    string   // Booster that says so
	Missing []Member // whom it misses
	Witness bool     // one was appointed
}

// Err is a *NoMajorityError when the cluster is stuck.
func (c Cluster) Err() error {
	if !c.Stuck() {
		return nil
	}
	s := c[0]
	e := &NoMajorityError{Since: s.Lost.Time, Here: s.Name}
	for _, m := range s.Members {
		e.Witness = e.Witness || m.Role == RoleWitness
		if !m.There {
			e.Missing = append(e.Missing, m)
		}
	}
	return e
}

// Problem says who is missing since when.
func (e *NoMajorityError) Problem() string {
	parts := []string{fmt.Sprintf("no majority since %s", moment(e.Since))}
	for _, m := range e.Missing {
		text := m.called() + " does not answer"
		if m.Seen.IsZero() {
			text += " and was not seen since " + e.Here + " was started"
		} else {
			text += " since " + moment(m.Seen.Time)
		}
		parts = append(parts, text)
	}
	if !e.Witness {
		parts = append(parts, "there is no witness")
	}
	return strings.Join(parts, "; ") + ". No step is taken or queued; what is submitted waits in the database"
}

// Fix says what to do.
func (e *NoMajorityError) Fix() string {
	var names []string
	for _, m := range e.Missing {
		name := m.called()
		if m.Role == RoleWitness {
			name = "the agent of " + name
		}
		names = append(names, name)
	}
	return fmt.Sprintf("Start %s, or mend the network to it: two of three are enough. If what is missing is lost for good, see "+
		"`omflow-booster cluster recover --help` on the host of %s.",
		strings.Join(names, " or "), e.Here)
}

func (e *NoMajorityError) Error() string { return e.Problem() + ". " + e.Fix() }

func (m Member) called() string {
	if m.Role == RoleWitness {
		return fmt.Sprintf("%s (%s)", cmp.Or(m.Name, "the witness"), m.Address)
	}
	return fmt.Sprintf("%s (%s)", cmp.Or(m.Name, "the other Booster"), m.Address)
}

func moment(t time.Time) string {
	return fmt.Sprintf("%s (%s ago)", t.Local().Format(time.DateTime), time.Since(t).Round(time.Second))
}
