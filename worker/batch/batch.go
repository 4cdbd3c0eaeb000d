// Package batch turns many small concurrent calls into few large ones: group commit.
package batch

import (
	"context"
	"errors"
)

var (
	// ErrClosed is returned for calls after the end of Run.
	ErrClosed = errors.New("the batcher is closed")
	// ErrBadInput is what a flush wraps when one of its inputs is to blame: each is then tried alone, so that no call suffers for another.
	ErrBadInput = errors.New("an input is to blame")
)

// Batcher collects calls of Do into batches for one function. While one batch is under way the next collects, so a single
// call never waits for company and many calls share one round trip.
type Batcher[In, Out any] struct {
	flush func(ctx context.Context, batch []In) ([]Out, error)
	calls chan call[In, Out]
	done  chan struct{}
	max   int
}

type call[In, Out any] struct {
	in  In
	out chan result[Out]
}

type result[Out any] struct {
	out Out
	err error
}

// New returns a Batcher that calls flush with 1 to limit inputs. flush returns one output for each input, in the same order,
// or an error that all calls of the batch get.
func New[In, Out any](limit int, flush func(ctx context.Context, batch []In) ([]Out, error)) *Batcher[In, Out] {
	return &Batcher[In, Out]{flush: flush, calls: make(chan call[In, Out]), done: make(chan struct{}), max: limit}
}

// Do adds in to the next batch and waits for its result. When ctx ends first, the batch still takes its course.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	c := call[In, Out]{in: in, out: make(chan result[Out], 1)}
	var none Out
	select {
	case b.calls <- c:
	case <-b.done:
		return none, ErrClosed
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case r := <-c.out:
		return r.out, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Run works the batches off, with the given number of them under way at once, until ctx ends.
func (b *Batcher[In, Out]) Run(ctx context.Context, parallel int) {
	defer close(b.done)
	free := make(chan struct{}, parallel)
	for range parallel {
		free <- struct{}{}
	}
	defer func() { // wait for the batches under way
		for range parallel {
			<-free
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-free:
		}
		select {
		case <-ctx.Done():
			free <- struct{}{}
			return
		case first := <-b.calls:
			batch := b.collect(first)
			go func() {
				b.work(ctx, batch)
				free <- struct{}{}
			}()
		}
	}
}

func (b *Batcher[In, Out]) collect(first call[In, Out]) []call[In, Out] {
	batch := []call[In, Out]{first}
	for len(batch) < b.max {
		select {
		case c := <-b.calls:
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

func (b *Batcher[In, Out]) work(ctx context.Context, batch []call[In, Out]) {
	in := make([]In, len(batch))
	for i, c := range batch {
		in[i] = c.in
	}
	out, err := b.flush(ctx, in)
	if errors.Is(err, ErrBadInput) && len(batch) > 1 {
		for _, c := range batch {
			b.work(ctx, []call[In, Out]{c})
		}
		return
	}
	for i, c := range batch {
		r := result[Out]{err: err}
		if err == nil {
			r.out = out[i]
		}
		c.out <- r
	}
}
