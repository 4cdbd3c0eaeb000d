package worker

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// arrival is a message of WORK as it came over the bus. It is the jetstream.Msg of a pull that the puller has made itself: that library
// does not say which request a message answers, and the lease counts from the request.
type arrival struct{ msg *nats.Msg }

func (a arrival) Data() []byte         { return a.msg.Data }
func (a arrival) Headers() nats.Header { return a.msg.Header }
func (a arrival) Subject() string      { return a.msg.Subject }
func (a arrival) Reply() string        { return a.msg.Reply }
func (a arrival) Ack() error           { return a.msg.Ack() }
func (a arrival) Nak() error           { return a.msg.Nak() }
func (a arrival) InProgress() error    { return a.msg.InProgress() }
func (a arrival) Term() error          { return a.msg.Term() }

func (a arrival) DoubleAck(ctx context.Context) error    { return a.msg.AckSync(nats.Context(ctx)) }
func (a arrival) NakWithDelay(delay time.Duration) error { return a.msg.NakWithDelay(delay) }
func (a arrival) TermWithReason(string) error            { return a.msg.Term() }
func (a arrival) Metadata() (*jetstream.MsgMetadata, error) {
	meta, err := a.msg.Metadata()
	if err != nil {
		return nil, err
	}
	return &jetstream.MsgMetadata{
		Sequence:     jetstream.SequencePair{Consumer: meta.Sequence.Consumer, Stream: meta.Sequence.Stream},
		NumDelivered: meta.NumDelivered, NumPending: meta.NumPending, Timestamp: meta.Timestamp,
		Stream: meta.Stream, Consumer: meta.Consumer, Domain: meta.Domain,
	}, nil
}
