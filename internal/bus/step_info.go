package bus

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StepInfo is what a message on WORK or DEAD says of its step, for lists.
type StepInfo struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Flow     string    `json:"flow"`
	Ticket   string    `json:"key"`
	Sequence uint64    `json:"sequence"`
	Bytes    int       `json:"bytes"`
	At       time.Time `json:"at"` // when the message was stored
}

// DescribeStep reads what a message on WORK or DEAD says of its step.
func DescribeStep(m *jetstream.RawStreamMsg) StepInfo {
	kind, flow, id := SubjectTokens(m.Subject)
	if name := m.Header.Get(HeaderKind); name != "" {
		kind = name // as the queue is called; the subject has it in small letters
	}
	return StepInfo{
		ID: id, Kind: kind, Flow: flow, Ticket: m.Header.Get(HeaderKey),
		Sequence: m.Sequence, Bytes: len(m.Data), At: m.Time.UTC(),
	}
}
