// Package rollout brings a patch to the OMFLOW Servers one after the other: it decides which of them may apply it when, and halts when
// one of them fails.
//
// The active Booster decides (Coordinator), each agent asks (Turn). What is decided stands in one key of ROLLOUT for each
// patch, the plan. A decision is made by replacing the plan that it was made from, so two Boosters that take over from each
// other never both decide, and the next one goes on where the last one was.
//
//	approval ──approve──▶ running ◀──resume── paused, halted
//	 ▲    └──pause──┐       │ ▲ │                 ▲
//	 └──resume── paused     │ │ └──pause, failure─┘
//	                        │ └── a node waits for it: granted, and then its outcome
//	                        └──abort──▶ aborted: nobody applies it any more, who has it keeps it
//
// Approval and pause are two things: what was paused before anybody approved it waits for its approval when it is resumed.
package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout/jsonkeep"
)

// States of a plan.
const (
	StateApproval = "approval" // it waits for `patch approve`
	StateRunning  = "running"  // who waits for it gets his turn; also when everybody has it
	StatePaused   = "paused"   // by an operator
	StateHalted   = "halted"   // by failures
	StateAborted  = "aborted"  // by an operator, for good

	StateUnreadable = "unreadable" // no program has written it; Waiting says so of a plan that cannot be read
)

// OutcomeGivenUp is the outcome of a grant whose node did not answer in time; it may have its turn again. The other outcomes are those of a
// report (patch.StateApplied, …). An empty one is a node that is at it.
const OutcomeGivenUp = "given up"

func planSubject(patch string) string {
	return bus.KeySubject(bus.BucketRollout, bus.PlanPrefix+bus.Token(patch))
}

// PlanFormat is the version of a plan that this program understands: a field that must be understood makes another one. Who
// meets a newer one leaves it as it is, and waits for the update. Fields that need not be understood are kept when the plan is
// rewritten.
const PlanFormat = 1

// Plan is how a patch is rolled out, in ROLLOUT under plan.<patch>.
type Plan struct {
	Format int    `json:"format"` // 0 of a former release
	Patch  string `json:"patch"`
	Standing
	Policy
	Pace
	Grants    map[string]Grant `json:"grants"`    // by node
	Tolerated int              `json:"tolerated"` // failures that there were when an operator had it go on
	Migration Migration        `json:"migration"` // of the database, if the patch wants one

	Resolutions map[string]string `json:"resolutions,omitempty"` // what holds in a conflict, by node or for Everywhere

	read stored
}

// Standing is the state of a rollout, and who decided it.
type Standing struct {
	State      string    `json:"state"`
	Reason     string    `json:"reason"` // of the state
	By         string    `json:"by"`     // who changed the state last
	Changed    time.Time `json:"changed"`
	ApprovedBy string    `json:"approved_by,omitempty"` // who said `patch approve`; empty: nobody yet, or nobody had to
	ApprovedAt time.Time `json:"approved_at,omitzero"`
}

// Pace is who may go on at this moment.
type Pace struct {
	Held  string   `json:"held,omitempty"`  // why nobody gets a turn though some wait for one; empty: somebody does
	Paced bool     `json:"paced,omitempty"` // the Booster says which nodes may fetch; otherwise every node may
	Fetch []string `json:"fetch,omitempty"` // nodes that may fetch the artifact now, sorted
}

// stored is a plan as it was read.
type stored struct {
	revision uint64 // of the key; 0 when there is none
	text     []byte // it may have more than is known here
}

// Policy is how careful a rollout is. The zero policy is that of the Booster.
type Policy struct {
	MaxUnavailable int    `json:"max_unavailable"` // servers that may be without service at the same time
	MaxFailures    int    `json:"max_failures"`    // servers on which it may fail before it halts
	Canary         string `json:"canary"`          // the node that gets it first; empty: the first one that is ready
	// time of day in which turns are given, in the Booster's time zone: 22:00-05:00; empty: always
	Window   string `json:"window"`
	Approval bool   `json:"approval"` // somebody has to say `patch approve` before the first turn
}

// Grant is the turn of one node.
type Grant struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"` // empty while the node is at it
	Reason  string    `json:"reason"`  // of a failure
	Until   time.Time `json:"until"`   // when the outcome was noted
	Report  uint64    `json:"report"`  // revision of the node's report that was noted last; 0: none
}

// Open tells whether a node has its turn now.
func (p Plan) Open(node string) bool {
	g, ok := p.Grants[node]
	return ok && g.Outcome == ""
}

// at is how many nodes are at it.
func (p Plan) at() (n int) {
	for _, g := range p.Grants {
		if g.Outcome == "" {
			n++
		}
	}
	return n
}

// Next is a new plan. Its state follows from its policy.
func Next(patch string, policy Policy, now time.Time) Plan {
	p := Plan{Patch: patch, Standing: Standing{State: StateRunning, Changed: now}, Policy: policy, Grants: map[string]Grant{}}
	if policy.Approval {
		p.State, p.Reason = StateApproval, notApproved
	}
	return p
}

const notApproved = "nobody has approved it yet"

// pending tells whether somebody has to approve the rollout and nobody has.
func (p Plan) pending() bool { return p.Approval && p.ApprovedBy == "" }

// orNext is p, or a new plan in the place of one that is not there.
func (p Plan) orNext(there bool, patch string, policy Policy) Plan {
	if there {
		return p
	}
	next := Next(patch, policy, time.Now())
	next.read.revision = p.read.revision
	return next
}

// Validate refuses a policy that cannot be followed.
func (p Policy) Validate() error {
	if p.MaxUnavailable < 1 {
		return fmt.Errorf("%d servers at the same time cannot be patched; give 1 or more", p.MaxUnavailable)
	}
	if p.MaxFailures < 0 {
		return fmt.Errorf("%d failures cannot be allowed; give 0 or more", p.MaxFailures)
	}
	_, err := parseWindow(p.Window)
	return err
}

func (p Plan) clone() Plan {
	p.Grants = maps.Clone(p.Grants)
	return p
}

// ErrUnreadable is returned for a plan that is not JSON, or of another shape: some other program has written it.
var ErrUnreadable = errors.New("the plan cannot be read")

// Read is the plan of a patch, by the leader of the bucket. ok is false when there is none yet. One of a newer format comes
// with an error that matches bus.ErrNewer, as far as it is understood. One that cannot be read comes with an error
// that matches ErrUnreadable.
func Read(ctx context.Context, js jetstream.JetStream, patch string) (p Plan, ok bool, err error) {
	value, revision, err := bus.ReadKey(ctx, js, bus.BucketRollout, bus.PlanPrefix+bus.Token(patch))
	if err != nil || len(value) == 0 {
		return Plan{read: stored{revision: revision}}, false, err
	}
	if err := json.Unmarshal(value, &p); err != nil {
		return Plan{read: stored{revision: revision}}, false,
			fmt.Errorf("%w: %w; omflow-booster patch abort %s replaces it", ErrUnreadable, err, patch)
	}
	p.read.revision, p.read.text = revision, value
	if p.Format > PlanFormat {
		return p, true, fmt.Errorf("plan of patch %s has format %d and this omflow-booster knows %d; %w", patch, p.Format, PlanFormat,
			bus.ErrNewer)
	}
	return p, true, nil
}

// ErrChanged is returned when somebody else has changed the plan meanwhile.
var ErrChanged = errors.New("the plan was changed meanwhile")

// Write replaces the plan that p was made from.
func Write(ctx context.Context, js jetstream.JetStream, p Plan) error {
	p.Format = PlanFormat
	data, err := jsonkeep.Marshal(p, p.read.text)
	if err != nil {
		return fmt.Errorf("plan of patch %s: %w", p.Patch, err)
	}
	_, err = js.Publish(ctx, planSubject(p.Patch), data, jetstream.WithExpectLastSequencePerSubject(p.read.revision))
	if bus.IsRefused(err) {
		return ErrChanged
	}
	if err != nil {
		return fmt.Errorf("write plan of patch %s: %w", p.Patch, err)
	}
	return nil
}

// Create writes the plan of a patch that is about to be announced. One that is there already stays.
func Create(ctx context.Context, js jetstream.JetStream, patch string, policy Policy) error {
	err := Write(ctx, js, Next(patch, policy, time.Now()))
	if errors.Is(err, ErrChanged) {
		return nil
	}
	return err
}

// Suggest names the server that gets a patch first, which is about to be announced. All else is as the Booster does it.
func Suggest(ctx context.Context, js jetstream.JetStream, patch, canary string) error {
	p := Plan{Patch: patch, Policy: Policy{Canary: canary}, Standing: Standing{Changed: time.Now()}, Grants: map[string]Grant{}}
	err := Write(ctx, js, p)
	if errors.Is(err, ErrChanged) {
		return nil
	}
	return err
}

// under is a plan whose policy was left to the Booster.
func (p Plan) under(policy Policy) Plan {
	if p.Canary != "" {
		policy.Canary = p.Canary
	}
	if p.State == "" {
		next := Next(p.Patch, policy, p.Changed)
		p.State, p.Reason = next.State, next.Reason
	}
	p.Policy = policy
	if p.State == StateRunning && p.pending() { // it was resumed before anybody knew its policy
		p.State, p.Reason = StateApproval, notApproved
	}
	return p
}

// patches lists the patches that have a plan.
func patches(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	keys, err := bus.Keys(ctx, js, bus.BucketRollout, bus.PlanPrefix+"*")
	for i, key := range keys {
		keys[i] = strings.TrimPrefix(key, bus.PlanPrefix)
	}
	return keys, err
}
