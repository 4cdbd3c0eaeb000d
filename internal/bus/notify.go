package bus

import (
	"time"

	"github.com/nats-io/nats.go"
)

// notifyAgain is more than a message takes from a subscriber's eyes to the disks of a majority.
const notifyAgain = time.Second

// Notify tells when a message on one of the subjects has gone by. It says when to look at what JetStream stores, and no more:
// messages that come close together are one notification, and without a connection there is none. Call stop in the end.
//
// A message goes by before JetStream has stored it, in a cluster before a majority has: who looks at once may see what was
// there before. So each message is a second notification, notifyAgain later.
func Notify(nc *nats.Conn, subjects ...string) (notify <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	signal := func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	var subs []*nats.Subscription
	for _, subject := range subjects {
		sub, err := nc.Subscribe(subject, func(*nats.Msg) {
			signal()
			time.AfterFunc(notifyAgain, signal)
		})
		if err == nil {
			subs = append(subs, sub)
		}
	}
	return c, func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}
}
