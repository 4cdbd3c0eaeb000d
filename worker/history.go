package worker

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

const (
	historyBuffer = 20_000 // attempts that wait for the database
	historyBatch  = 500    // attempts in one INSERT
	historyEvery  = 500 * time.Millisecond
	pruneEvery    = time.Hour
	pruneBatch    = 5_000
)

// history writes what became of each attempt, in batches and off the critical path. When the database cannot keep up, lines are
// dropped and counted: a step never waits for its history.
type history struct {
	attempts chan outbox.Attempt
	write    func(ctx context.Context, attempts []outbox.Attempt) error
	dropped  atomic.Int64
	log      zerolog.Logger
}

func newHistory(write func(context.Context, []outbox.Attempt) error, log zerolog.Logger) *history {
	return &history{attempts: make(chan outbox.Attempt, historyBuffer), write: write, log: log}
}

// add notes one attempt; it never blocks.
func (h *history) add(t outbox.Attempt) {
	t.Kind, t.Flow, t.Ticket, t.Worker = cut(t.Kind, 100), cut(t.Flow, 100), cut(t.Ticket, 150), cut(t.Worker, 100)
	t.Error = cut(t.Error, 10_000)
	select {
	case h.attempts <- t:
	default:
		h.dropped.Add(1)
	}
}

// cut keeps the first n characters, and of these what every database stores.
func cut(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "")
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// run writes until ctx ends, and then what is left.
func (h *history) run(ctx context.Context) {
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.Background(), ackTimeout)
			defer cancel()
			for len(h.attempts) > 0 && h.flush(last) {
			}
			return
		case <-tick.C:
			// A write that has begun is not ended by the stop: its batch would be gone.
			for len(h.attempts) > 0 && h.flush(context.WithoutCancel(ctx)) {
			}
			if n := h.dropped.Swap(0); n > 0 {
				h.log.Warn().Int64("lines", n).Msg("step history dropped: the database is too slow or away")
			}
		}
	}
}

// flush writes one batch and tells whether the database took it. A batch that it does not take is counted as dropped.
func (h *history) flush(ctx context.Context) bool {
	batch := make([]outbox.Attempt, 0, historyBatch)
	for len(batch) < historyBatch {
		select {
		case t := <-h.attempts:
			batch = append(batch, t)
			continue
		default:
		}
		break
	}
	if len(batch) == 0 {
		return false
	}
	call, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	if err := h.write(call, batch); err != nil {
		h.log.Warn().Err(err).Msg("step history not written")
		h.dropped.Add(int64(len(batch)))
		return false
	}
	return true
}
