package worker

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	sendAckEvery = 250 * time.Millisecond // between two tries to reach the Booster about a step
	tendEvery    = 50 * time.Millisecond  // between two looks at what is not confirmed
)

// The verbs of an ack, as NATS defines them. Each is sent as a request: the Booster's answer says that it has arrived. The answer does not
// say that the step was still ours; the row decides that.
const (
	verbAck   = "+ACK"
	verbRenew = "+WPI"
	verbNak   = "-NAK"
)

// confirms sends verbs about steps and hears their confirmations, all on one inbox. Nobody waits: many verbs share one write to the
// connection, and over is called when the Booster has answered, or when it is too late.
type confirms struct {
	nc     *nats.Conn
	queue  *queue
	prefix string

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]*verb
}

// verb is one that is on its way.
type verb struct {
	m     *message
	text  string
	until time.Time // when it is too late to send it again
	once  bool      // do not send it again
	over  func(err error)
	sent  time.Time // zero: not yet, or known not to have arrived
	tries int
}

// newConfirms subscribes to the inbox. stop ends the subscription.
func newConfirms(nc *nats.Conn, q *queue) (c *confirms, stop func(), err error) {
	c = &confirms{nc: nc, queue: q, prefix: nc.NewInbox() + ".", waiting: map[uint64]*verb{}}
	sub, err := nc.Subscribe(c.prefix+"*", c.heard)
	if err != nil {
		return nil, nil, fmt.Errorf("listen for confirmations: %w", err)
	}
	return c, func() { _ = sub.Unsubscribe() }, nil
}

// send sends a verb. over is called once, from another goroutine or from this one.
func (c *confirms) send(v *verb) {
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = v
	c.mu.Unlock()
	c.try(id, v, time.Now())
}

// try says nothing to a queue that may be another one.
func (c *confirms) try(id uint64, v *verb, now time.Time) {
	if bus.Away(c.nc) != nil || !c.queue.sure() {
		return // tend tries again
	}
	msg := &nats.Msg{Subject: v.m.Reply, Reply: c.prefix + strconv.FormatUint(id, 10), Data: []byte(v.text)}
	c.mu.Lock()
	v.sent = now
	v.tries++
	c.mu.Unlock()
	if c.nc.PublishMsg(msg) != nil {
		c.mu.Lock()
		v.sent = time.Time{}
		c.mu.Unlock()
	}
}

func (c *confirms) heard(msg *nats.Msg) {
	id, err := strconv.ParseUint(strings.TrimPrefix(msg.Subject, c.prefix), 10, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	v := c.waiting[id]
	if v != nil && len(msg.Data) == 0 && msg.Header.Get("Status") == noResponders {
		v.sent, v = time.Time{}, nil // no Booster leads the consumer
	}
	if v != nil {
		delete(c.waiting, id)
	}
	c.mu.Unlock()
	if v != nil {
		v.over(nil)
	}
}

// tend sends again what was not confirmed, and gives up what is too late. hard says that steps are to be ended.
func (c *confirms) tend(now time.Time, hard bool) {
	patience := min(ackTimeout, max(c.queue.leaseTime()/4, sendAckEvery))
	again, late := map[uint64]*verb{}, []*verb{}
	c.mu.Lock()
	for id, v := range c.waiting {
		open := !v.sent.IsZero() && now.Sub(v.sent) < patience
		switch {
		case v.m.isLost(), !v.m.lease.Valid(), !open && (now.After(v.until) || hard || v.once):
			delete(c.waiting, id)
			late = append(late, v)
		case !open:
			again[id] = v
		}
	}
	c.mu.Unlock()
	for _, v := range late {
		v.over(fmt.Errorf("%s not confirmed after %d tries: %w", v.text, v.tries, ErrLeaseLost))
	}
	for id, v := range again {
		c.try(id, v, now)
	}
}
