package rollout

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// askEvery is how old an answer about a node may be that neither waits for a patch nor is at it. What such a node writes is
// heard as it goes by.
const askEvery = 30 * time.Second

// heard are the reports of nodes as they were read last. Asking each of 500 nodes once a second would be most of what a rollout costs.
type heard struct {
	mu    sync.Mutex
	known map[string]answer // by key of ROLLOUT
}

type answer struct {
	report report
	there  bool
	at     time.Time
}

// listen forgets an answer when the node writes a new one.
func (h *heard) listen(nc *nats.Conn) (stop func(), err error) {
	h.known = map[string]answer{}
	prefix := bus.KeySubject(bus.BucketRollout, "")
	sub, err := nc.Subscribe(prefix+"*.*", func(m *nats.Msg) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.known, strings.TrimPrefix(m.Subject, prefix))
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// clear forgets everything: nothing is rolled out.
func (h *heard) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.known)
}

// read is what a node says of a patch. With now it is what it says at this moment.
func (h *heard) read(ctx context.Context, js jetstream.JetStream, patchID, node string, now bool) (report, bool, error) {
	key := patch.Report{Patch: patchID, Node: node}.Key()
	h.mu.Lock()
	a, ok := h.known[key]
	h.mu.Unlock()
	if ok && !now && time.Since(a.at) < askEvery {
		return a.report, a.there, nil
	}
	asked := time.Now()
	r, revision, err := patch.ReadReport(ctx, js, patchID, node)
	if err != nil {
		return report{}, false, err
	}
	a = answer{report{r, revision}, revision > 0, asked}
	h.mu.Lock()
	h.known[key] = a
	h.mu.Unlock()
	return a.report, a.there, nil
}
