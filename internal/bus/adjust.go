package bus

import (
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Adjust returns the configuration of a stream with what the layout wants, and the names of what that changes: none when it is as it should
// be, or is no stream of ours. What is of no concern to us stays, and so do the replicas: the members decide on them. used is how many
// bytes it holds.
func (l Layout) Adjust(actual jetstream.StreamConfig, used uint64) (wanted jetstream.StreamConfig, changes []string) {
	should, ours := l.stream(actual.Name)
	if !ours {
		return actual, nil
	}
	if strings.HasPrefix(actual.Name, bucketStreams) && should.MaxBytes < actual.MaxBytes {
		// Locks and reports are rewritten all the time, and a full bucket refuses that: it shrinks with room to spare, or not.
		should.MaxBytes = min(actual.MaxBytes, max(should.MaxBytes, 2*int64(used)))
	}
	wanted = actual
	change(&changes, "description", &wanted.Description, should.Description)
	change(&changes, "max_bytes", &wanted.MaxBytes, unlimited(should.MaxBytes))
	change(&changes, "max_age", &wanted.MaxAge, should.MaxAge)
	change(&changes, "max_msgs_per_subject", &wanted.MaxMsgsPerSubject, unlimited(should.MaxMsgsPerSubject))
	if strings.HasPrefix(actual.Name, bucketStreams) || strings.HasPrefix(actual.Name, objectStreams) {
		return wanted, changes // the rest is a matter of the client library
	}
	if !slices.Equal(wanted.Subjects, should.Subjects) {
		wanted.Subjects, changes = should.Subjects, append(changes, "subjects")
	}
	change(&changes, "retention", &wanted.Retention, should.Retention) // the server refuses this one and says so
	change(&changes, "storage", &wanted.Storage, should.Storage)       // and this one
	change(&changes, "discard", &wanted.Discard, should.Discard)
	change(&changes, "discard_new_per_subject", &wanted.DiscardNewPerSubject, should.DiscardNewPerSubject)
	change(&changes, "max_msgs", &wanted.MaxMsgs, unlimited(should.MaxMsgs))
	change(&changes, "max_msg_size", &wanted.MaxMsgSize, unlimited(should.MaxMsgSize))
	change(&changes, "allow_direct", &wanted.AllowDirect, should.AllowDirect)
	if should.Duplicates > 0 {
		change(&changes, "duplicate_window", &wanted.Duplicates, should.Duplicates)
	}
	return wanted, changes
}

// AdjustWorkers is Adjust for the consumer of the workers. It makes a lease shorter by half at most: workers look for another
// lease now and then, and until then renew at a quarter of the one that they know. A step whose renewal came too late would be
// given to a second worker while the first one runs it.
func (l Layout) AdjustWorkers(actual jetstream.ConsumerConfig) (wanted jetstream.ConsumerConfig, changes []string) {
	should := l.Workers()
	wanted = actual
	change(&changes, "description", &wanted.Description, should.Description)
	change(&changes, "ack_wait", &wanted.AckWait, max(should.AckWait, actual.AckWait/2))
	change(&changes, "max_deliver", &wanted.MaxDeliver, should.MaxDeliver)
	change(&changes, "max_ack_pending", &wanted.MaxAckPending, should.MaxAckPending)
	if len(actual.BackOff) > 0 { // it would take the place of the lease
		wanted.BackOff, changes = nil, append(changes, "backoff")
	}
	return wanted, changes
}

// StoreOf is the StoreBytes for which a WORK of this size was made.
func StoreOf(workBytes int64) int64 { return int64(float64(workBytes)/shareWork + 0.5) }

// stream is the part of a stream's configuration that is ours to decide, by name.
func (l Layout) stream(name string) (jetstream.StreamConfig, bool) {
	for _, s := range l.streams() {
		if s.Name == name {
			return s, true
		}
	}
	if p := l.patches(); name == ObjectStream(p.Bucket) {
		return jetstream.StreamConfig{Description: p.Description, MaxBytes: p.MaxBytes}, true
	}
	for _, kv := range l.buckets() {
		if name == BucketStream(kv.Bucket) {
			return jetstream.StreamConfig{
				Description: kv.Description, MaxBytes: kv.MaxBytes, MaxAge: kv.TTL, MaxMsgsPerSubject: int64(kv.History),
			}, true
		}
	}
	return jetstream.StreamConfig{}, false
}

// unlimited is how the server writes a limit that is not set.
func unlimited[T int32 | int64](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

func change[T comparable](changes *[]string, name string, have *T, want T) {
	if *have != want {
		*have, *changes = want, append(*changes, name)
	}
}
