package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Lock elects one holder among the processes that run it, through a key of CONTROL.
//
// No clock is shared: the holder rewrites its key every third of TTL; whoever waits may take the key once he has himself
// watched it unchanged for a whole TTL. The holder stops trusting its lock two thirds of a TTL after the last rewrite
// that it knows of began, so that it has stopped before another can have started.
//
//	waiting ──key absent, or unchanged for TTL──▶ holding ──fn returns, ctx ends──▶ key deleted
//	   ▲                                            │
//	   └──────── rewrite refused, or TTL*2/3 without a rewrite (fn's context is cancelled) ◀┘
type Lock struct {
	JS     jetstream.JetStream
	Name   string        // LockReconciler, LockActive
	Holder string        // who we are, unlike all others; shown to people
	TTL    time.Duration // from the death of a holder to the next one, at least
	// Candidate, when set, says whether we may take the lock now. A non-candidate also watches the key, so it
	// has already waited out the TTL when it becomes eligible.
	Candidate func() bool
}

// Run waits for the lock, runs fn while it is held, and waits again when it was lost. The context of fn ends as soon as the
// lock cannot be trusted any more; what must not happen twice asks Trusted before. Run returns nil when ctx ends, or what fn returned
// while it held the lock.
func (l Lock) Run(ctx context.Context, fn func(ctx context.Context) error) error {
	for {
		revision, since, ok := l.acquire(ctx)
		if !ok {
			return nil // ctx ended
		}
		held, err := l.hold(ctx, revision, since, fn)
		if held || ctx.Err() != nil {
			return err
		}
	}
}

// trust is until when a lock can be trusted.
type trust struct{ until atomic.Pointer[time.Time] }

type trustKey struct{}

func (t *trust) extend(began time.Time, ttl time.Duration) {
	until := began.Add(ttl * 2 / 3)
	t.until.Store(&until)
}

// left is how long the trust lasts. A clock that counts while the process runs stands still in a machine that is suspended; the one of the
// wall does not.
func (t *trust) left() time.Duration {
	until, now := *t.until.Load(), time.Now()
	return min(until.Sub(now), until.Round(0).Sub(now.Round(0)))
}

// Trusted says, with the context that Lock.Run gave to fn or one made from it, whether the lock is held at this moment. A process that was
// frozen learns it here first: its context ends a moment later.
func Trusted(ctx context.Context) bool {
	t, ok := ctx.Value(trustKey{}).(*trust)
	return ok && ctx.Err() == nil && t.left() > 0
}

func (l Lock) key() string { return LockKey(l.Name) }

// write replaces the key if nobody else has since revision, and returns its new revision.
func (l Lock) write(ctx context.Context, revision uint64) (uint64, error) {
	ack, err := l.JS.Publish(ctx, l.subject(), []byte(l.Holder), jetstream.WithExpectLastSequencePerSubject(revision))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (l Lock) subject() string { return KeySubject(BucketControl, l.key()) }

// acquire blocks until the lock is ours and returns the revision of the key and when the call that took it began: the TTL may run since
// then. ok is false when ctx ended first.
func (l Lock) acquire(ctx context.Context) (revision uint64, began time.Time, ok bool) {
	var seen uint64
	var since time.Time
	for {
		holder, current, err := ReadKey(ctx, l.JS, BucketControl, l.key())
		if err == nil && (current != seen || since.IsZero()) {
			seen, since = current, time.Now()
		}
		free := len(holder) == 0 || time.Since(since) >= l.TTL
		if err == nil && free && (l.Candidate == nil || l.Candidate()) {
			began = time.Now()
			if revision, err := l.write(ctx, current); err == nil {
				return revision, began, true
			}
		}
		if !Sleep(ctx, l.TTL/10) {
			return 0, began, false
		}
	}
}

// hold runs fn and keeps the key ours. held is false when the lock was lost before fn came to its own end.
func (l Lock) hold(ctx context.Context, revision uint64, since time.Time, fn func(ctx context.Context) error) (held bool, err error) {
	var trusted trust
	trusted.extend(since, l.TTL)
	inner, cancel := context.WithCancel(context.WithValue(ctx, trustKey{}, &trusted))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- fn(inner) }()

	renew := time.NewTicker(l.TTL / 3)
	defer renew.Stop()
	for {
		select {
		case err = <-done:
			l.release(revision)
			return true, err
		case <-ctx.Done():
			err = <-done
			l.release(revision)
			return true, err
		case <-renew.C:
			began := time.Now()
			call, cancelCall := context.WithTimeout(ctx, trusted.left())
			next, err := l.renew(call, revision)
			cancelCall()
			if err == nil {
				revision = next
				trusted.extend(began, l.TTL)
				renew.Reset(l.TTL / 3)
				continue
			}
			if errors.Is(err, jetstream.ErrKeyExists) || trusted.left() <= 0 {
				cancel() // taken by another, or too old to trust
				return false, errors.Join(<-done, fmt.Errorf("lock %s lost: %w", l.Name, err))
			}
			renew.Reset(l.TTL / 12) // the Booster may be moving: ask again soon, while there is time
		}
	}
}

// renew rewrites the key. An answer may have been lost before: then the key has moved on, and still has our name.
func (l Lock) renew(ctx context.Context, revision uint64) (next uint64, err error) {
	next, err = l.write(ctx, revision)
	if !IsRefused(err) {
		return next, err
	}
	holder, current, readErr := ReadKey(ctx, l.JS, BucketControl, l.key())
	switch {
	case readErr != nil:
		return 0, readErr
	case string(holder) != l.Holder:
		return 0, errors.Join(jetstream.ErrKeyExists, err)
	}
	return l.write(ctx, current)
}

func (l Lock) release(revision uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), l.TTL/3)
	defer cancel()
	msg := nats.NewMsg(l.subject())
	msg.Header.Set("KV-Operation", "DEL") // as KeyValue.Delete does
	for {
		// A Booster that hands over moves the leadership of CONTROL at the same moment. What is not released, the others wait for
		// until TTL is over.
		_, err := l.JS.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(revision))
		if err == nil || IsRefused(err) || !Sleep(ctx, 20*time.Millisecond) {
			return
		}
	}
}
