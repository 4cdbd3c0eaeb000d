package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	KV     jetstream.KeyValue
	Name   string        // LockReconciler, LockPatchTurn, …
	Holder string        // who we are; shown to people
	TTL    time.Duration // from the death of a holder to the next one, at least
}

// Run waits for the lock, runs fn while it is held, and waits again when it was lost. The context of fn ends as soon as the
// lock cannot be trusted any more. Run returns nil when ctx ends, or what fn returned while it held the lock.
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

func (l Lock) key() string { return "lock." + Token(l.Name) }

// acquire blocks until the lock is ours and returns the revision of the key and when the call that took it began: the TTL may run since
// then. ok is false when ctx ended first.
func (l Lock) acquire(ctx context.Context) (revision uint64, began time.Time, ok bool) {
	var seen uint64
	var since time.Time
	for {
		began := time.Now()
		if revision, err := l.KV.Create(ctx, l.key(), []byte(l.Holder)); err == nil {
			return revision, began, true
		}
		entry, err := l.KV.Get(ctx, l.key())
		switch {
		case err != nil: // gone meanwhile, or no Booster: try again
			seen = 0
		case entry.Revision() != seen:
			seen, since = entry.Revision(), time.Now()
		case time.Since(since) >= l.TTL:
			began = time.Now()
			if revision, err := l.KV.Update(ctx, l.key(), []byte(l.Holder), seen); err == nil {
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
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- fn(inner) }()

	trusted := since.Add(l.TTL * 2 / 3)
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
			call, cancelCall := context.WithDeadline(ctx, trusted)
			next, err := l.KV.Update(call, l.key(), []byte(l.Holder), revision)
			cancelCall()
			if err == nil {
				revision, trusted = next, began.Add(l.TTL*2/3)
				renew.Reset(l.TTL / 3)
				continue
			}
			if errors.Is(err, jetstream.ErrKeyExists) || !time.Now().Before(trusted) {
				cancel() // taken by another, or too old to trust
				return false, errors.Join(<-done, fmt.Errorf("lock %s lost: %w", l.Name, err))
			}
			renew.Reset(l.TTL / 12) // the Booster may be moving: ask again soon, while there is time
			continue
		}
	}
}

func (l Lock) release(revision uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.KV.Delete(ctx, l.key(), jetstream.LastRevision(revision)) // else the others wait for TTL
}

// Sleep waits for d and tells whether ctx let it.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
