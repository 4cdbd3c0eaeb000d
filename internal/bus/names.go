// Package bus holds what every service knows of the bus: its names, how to connect, which streams and buckets
// exist with which limits, the lock that elects one holder, and the heartbeat of a node.
//
// The names in this file are a public interface: people read them in the nats CLI and write them in scripts.
package bus

import (
	"errors"
	"slices"
	"strings"
)

// Streams.
const (
	StreamWork  = "WORK"  // work.<kind>.<flow>.<id>: steps waiting or running; one message per id at most
	StreamDead  = "DEAD"  // dead.<kind>.<flow>.<id>: steps given up on, kept until retried or purged
	StreamPatch = "PATCH" // patch.announce.<id>: patches in the order in which every agent applies them

	// FormerStream was made by older programs for delayed work, which nobody ever gave it: OMFLOW's schedules fire from their rows.
	FormerStream = "SCHEDULE"
)

// Streams counts all streams, those of buckets and of the object store included.
const Streams = 7

// StreamNames are the names of all streams.
func StreamNames() []string {
	return []string{
		StreamWork, StreamDead, StreamPatch, ObjectStream(ObjectPatches), BucketStream(BucketNodes), BucketStream(BucketRollout),
		BucketStream(BucketControl),
	}
}

// MissingStreams are those of all streams that are not among names.
func MissingStreams(names []string) (missing []string) {
	for _, name := range StreamNames() {
		if !slices.Contains(names, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// Key-value buckets and the object store.
const (
	BucketNodes   = "NODES"   // <role>.<name>: heartbeat of each booster, worker and agent; entries expire
	BucketRollout = "ROLLOUT" // <patch id>.<node>: what became of a patch on a node; plan.<patch id>; server.<node>: ever heard of; trimmed
	// lock.<name>: who holds a singleton; database: whose steps these are; revoked.<key id>: may not sign patches any more; later
	// licence, pauses and limits
	BucketControl = "CONTROL"
	ObjectPatches = "PATCHES" // the artifacts, by patch id
)

// ConsumerWorkers is the durable consumer of WORK that all workers pull from.
const ConsumerWorkers = "workers"

// SubjectPull is where a worker asks for the next steps, see MSG.NEXT in the JetStream API.
const SubjectPull = "$JS.API.CONSUMER.MSG.NEXT." + StreamWork + "." + ConsumerWorkers

// ErrNewer is returned for what a newer program has written in a format that this one does not know. It is nobody's fault, and
// waits for the update.
var ErrNewer = errors.New("update the omflow-booster of this host")

// NATS micro services, one name for each role.
const (
	ServiceBooster = "booster"
	ServiceWorker  = "worker"
	ServiceAgent   = "agent"
)

// ServiceVersion is the version of the micro services' interface, not of the program.
const ServiceVersion = "1.0.0"

// Endpoints of the micro services.
const (
	SubjectSubmit = "worker.submit" // request: items as JSON lines; any one worker answers
	SubjectProve  = "worker.prove"  // request: ids of steps, with blanks between them; the reconciler looks at their rows at once

	EndpointRepair   = "repair"
	EndpointHome     = "home"
	EndpointTransfer = "give"
	EndpointRevert   = "undo"
	EndpointRevertBy = "undo-by"

	EndpointPlace   = "place"
	EndpointPlaceBy = "place-by"

	EndpointRelease = "release"
	EndpointFiles   = "files"

	EndpointDrift = "drift"
	DriftSubject  = ServiceAgent + "." + EndpointDrift // request: nothing; every agent answers with its Drift
)

// HolderSubject is where the living node of a role and name answers that it is there; the answer is a Node.
func HolderSubject(role, name string) string { return "node." + Token(role) + "." + Token(name) }

// StepDownSubject is where a Booster is asked to hand over to the other one; the answer is SteppedDown.
func StepDownSubject(booster string) string { return "booster.step-down." + Token(booster) }

// StateSubject is where a Booster is asked how it is, and answers for itself whatever the others say; the answer is a Node.
func StateSubject(booster string) string { return "booster.state." + Token(booster) }

// LeaveSubject is where a Booster receives the order to leave. The request names the other Booster, which goes on alone; the one
// that leaves never serves again.
func LeaveSubject(booster string) string { return "booster.leave." + Token(booster) }

// SubjectFounding is where each Booster says, before there are streams, whether it has any to bring along.
const SubjectFounding = "booster.founding"

// AuditSubject is where a member of the cluster answers what the active Booster asks it about its copies. It is in the system
// account, which no client reaches.
func AuditSubject(what, member string) string { return "audit." + what + "." + Token(member) }

// SteppedDown is the answer of a Booster that has handed over.
type SteppedDown struct {
	Active string `json:"active"` // the Booster that is active now
}

// Headers of a message on WORK and DEAD.
const (
	HeaderMsgID   = "Nats-Msg-Id"  // omflow-queue-<row> or booster-outbox-<row>
	HeaderID      = "Work-Id"      // q<row> (a row of omflow_queuedata) or o<row> (a row of our outbox)
	HeaderKey     = "Work-Key"     // ticket: <flow>/<data_no>; empty when the item names none
	HeaderKind    = "Work-Kind"    // name of the queue, for example FormFlow
	HeaderAttempt = "Work-Attempt" // on DEAD and towards executors: which try, from 1
	// published again, so the step may be done already: look at its row before the first try too; see CheckReconciled
	HeaderCheck    = "Work-Check"
	HeaderDatabase = "Work-Database" // id of the database that has the row
	HeaderDigest   = "Work-Digest"   // of an item that is not in the body, or not all of it: see work.Item.Digest
	HeaderDiscard  = "Work-Discard"  // "true": do not run the step, only remove its row (dead purge)
	HeaderTried    = "Work-Tried"    // attempts of the step before it had a message
	HeaderDelay    = "Work-Delay"    // milliseconds, from when the message was stored, until the step may run

	HeaderDeadReason = "Dead-Reason" // why the step was given up, one line
	HeaderDeadError  = "Dead-Error"  // the last error, one line
	HeaderDeadWorker = "Dead-Worker" // the worker that gave up
	HeaderDeadAt     = "Dead-At"     // RFC 3339
)

// CheckReconciled is HeaderCheck of a message that was published because none was found for its row. The step may have been given up on
// between that look and the publish: look into DEAD, too.
const CheckReconciled = "reconciled"

// KeyDatabase is the key of CONTROL with the database whose steps the bus carries, see Database.
const KeyDatabase = "database"

// RevokedPrefix begins the keys of CONTROL that name revoked keys.
const RevokedPrefix = "revoked."

// Keys of ROLLOUT beside the reports of the nodes.
const (
	PlanPrefix   = "plan."   // begins the keys with how a patch is rolled out
	RosterPrefix = "server." // begins the keys with the servers ever heard of
	KeyTrimmed   = "trimmed" // the last patch that was removed from PATCH
)

// LockKey is the key of CONTROL that the holder of a lock writes.
func LockKey(lock string) string { return "lock." + Token(lock) }

// Lock names, held in CONTROL.
const (
	LockReconciler = "reconciler" // the one worker that publishes rows without a message
	LockActive     = "active"     // the Booster that leads WORK and may do what one alone does
)

// WorkSubject is the subject of a waiting step; DeadSubject of one given up on.
// The last token is the step's identity, so the server itself keeps a row from being queued twice.
func WorkSubject(kind, flow, id string) string { return subject("work", kind, flow, id) }

// DeadSubject is the subject of a step that was given up on.
func DeadSubject(kind, flow, id string) string { return subject("dead", kind, flow, id) }

// Announcements matches the subject of every announcement on PATCH.
const Announcements = "patch.announce.*"

// AnnounceSubject is the subject under which a patch is announced.
func AnnounceSubject(patchID string) string { return "patch.announce." + Token(patchID) }

// TurnSubject is where the active Booster tells a node that it has its turn for a patch, or may fetch it. It only says when to
// look at the plan.
func TurnSubject(node string) string { return "rollout.turn." + Token(node) }

// OrderSubject is where an operator's order about the rollout of a patch goes by. It only says when to look at the plan.
func OrderSubject(patchID string) string { return "rollout.order." + Token(patchID) }

// subject has kind and flow as labels: the row alone is the identity, and a row that an older program has queued must be found
// under the same subject.
func subject(prefix, kind, flow, id string) string {
	return prefix + "." + label(strings.ToLower(kind)) + "." + label(flow) + "." + label(id)
}

// SubjectID returns the last token of a subject: the identity of a step on WORK or DEAD.
func SubjectID(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}
