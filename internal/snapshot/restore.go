package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// RestoreOptions may be left empty.
type RestoreOptions struct {
	// Replicas of every stream; 0: those of the stream that it replaces, else one on a single server, else those of the snapshot.
	Replicas int
	// Force replaces streams that hold messages. Without it, Restore refuses with an *OccupiedError before it touches anything.
	Force    bool
	Progress func(Progress)
	Idle     time.Duration // a transfer in which nothing comes for so long is interrupted; default 30s

	// Finish, if set, is called with each restored and checked stream before anybody else may know; its error ends the restore.
	// Finished are the streams that it was told of when this snapshot was restored before: they may be in use since, and are left as they are.
	Finish   func(stream string) error
	Finished []string
}

// Restored is what became of one stream.
type Restored struct {
	Stream  Stream
	Skipped bool // it was there already, complete
	InUse   bool // it was in use before it could be looked at: the server stored all of it, and messages came or went since
}

// OccupiedError names the streams that hold messages which a restore would remove.
type OccupiedError struct{ Streams []Target }

func (e *OccupiedError) Error() string {
	var parts []string
	for _, t := range e.Streams {
		parts = append(parts, fmt.Sprintf("%s (%d messages)", t.Stream.Name, t.Messages))
	}
	return "the bus is in use: " + strings.Join(parts, ", ")
}

// ErrNoRoom says that a stream of the snapshot is larger than the one that it would replace may be.
var ErrNoRoom = errors.New("not enough room")

const (
	codeNameTaken  = 10130           // JSStreamNameExistRestoreFailedErr of nats-server
	restoreTimeout = 2 * time.Minute // with interrupted attempts for one stream, each after the pause
	restorePause   = 2 * time.Second
)

// unmarkAfter keeps a change of the stream away from the end of its restore: nats-server 2.15.2 says that it is restored before it has
// noted so for itself (jetstream_cluster.go:4891), and a change that comes in between would carry the restore along.
const unmarkAfter = time.Second

// checkTimeout is how long consumers may take to come up: in a cluster they follow their stream.
const checkTimeout = 30 * time.Second

// Restore puts a snapshot back. It reads all of it first, and returns ErrInvalid, *OccupiedError or ErrNoRoom before it has touched
// anything. Then it replaces the streams one after the other, each deleted right before, and checks each against the manifest. Whatever
// ends it in the middle, calling it again goes on where it was. It returns the streams that are done, also with an error.
//
// A stream that it replaces lends its replicas and its limit in bytes: these belong to the machine. Streams that are not in the
// snapshot are left alone.
func Restore(ctx context.Context, js jetstream.JetStream, src Source, o RestoreOptions) ([]Restored, error) {
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Finish == nil {
		o.Finish = func(string) error { return nil }
	}
	r := restorer{link: newLink(js, o.Idle), src: src, m: src.Manifest(), o: o}
	if err := src.Verify(); err != nil {
		return nil, err
	}
	targets, err := Compare(ctx, js, r.m)
	if err != nil {
		return nil, err
	}
	if err := r.refuse(targets); err != nil {
		return nil, err
	}
	var done []Restored
	for i, s := range r.m.Streams {
		one, err := r.stream(ctx, s, Progress{Stream: s.Name, Index: i + 1, Streams: len(r.m.Streams), Total: s.Size})
		if err != nil {
			return done, fmt.Errorf("restore stream %s: %w", s.Name, err)
		}
		done = append(done, one)
	}
	return done, nil
}

type restorer struct {
	link link
	src  Source
	m    Manifest
	o    RestoreOptions
}

// refuse finds what would make the restore fail, or remove what nobody has agreed to, before anything is removed.
func (r restorer) refuse(targets []Target) error {
	occupied := &OccupiedError{}
	for _, t := range targets {
		if r.finished(t.Stream.Name) {
			continue
		}
		if t.Standing == Occupied && !r.o.Force {
			occupied.Streams = append(occupied.Streams, t)
		}
		limit := r.sizes(t).MaxBytes
		if t.Standing != Same && limit > 0 && t.Stream.Bytes > uint64(limit) {
			return fmt.Errorf("%w: stream %s may hold %d bytes here and has %d in the snapshot", ErrNoRoom, t.Stream.Name, limit, t.Stream.Bytes)
		}
	}
	if len(occupied.Streams) > 0 {
		return occupied
	}
	return nil
}

func (r restorer) finished(stream string) bool { return slices.Contains(r.o.Finished, stream) }

// stream brings one stream to where the snapshot has it, and begins again when that is interrupted. A Booster of a cluster makes a stream
// that is missing at once, so the name may be taken again between removal and restore; the same error comes while a server has not given up
// a restore that was interrupted.
func (r restorer) stream(ctx context.Context, s Stream, p Progress) (Restored, error) {
	r.o.Progress(p)
	removed := false
	for end := time.Now().Add(restoreTimeout); ; {
		done, err := r.replace(ctx, s, p, &removed)
		var api *jetstream.APIError
		taken := errors.As(err, &api) && api.ErrorCode == codeNameTaken
		again := taken || errors.Is(err, errInterrupted) && !r.link.nc.IsClosed()
		if !again || time.Now().After(end) {
			return done, err
		}
		if err := pause(ctx, restorePause); err != nil {
			return done, err
		}
	}
}

// replace is one attempt. It sets removed once the old stream is gone: what is there afterwards was made since.
func (r restorer) replace(ctx context.Context, s Stream, p Progress, removed *bool) (Restored, error) {
	done := Restored{Stream: s}
	if r.finished(s.Name) {
		done.Skipped = true
		return done, r.unmark(ctx, s.Name) // which may have been interrupted
	}
	t, err := r.link.target(ctx, s) // anew: the streams before may have taken long
	if err != nil {
		return done, err
	}
	want := r.sizes(t)
	switch {
	case t.Standing == Same:
		done.Skipped = !*removed
		return done, r.o.Finish(s.Name)
	case t.Standing == Occupied && !r.o.Force && !*removed:
		return done, &OccupiedError{Streams: []Target{t}}
	case t.Standing != Absent:
		if err := r.link.remove(ctx, s.Name); err != nil {
			return done, err
		}
		*removed = true
	}
	config, err := withSizes(s.Config, want, r.m.ID)
	if err != nil {
		return done, err
	}
	in, err := r.src.open(s)
	if err != nil {
		return done, err
	}
	defer func() { _ = in.Close() }()
	now, err := r.link.upload(ctx, s, config, in, func(n int) {
		p.Done += int64(n)
		r.o.Progress(p)
	})
	if err != nil {
		return done, err
	}
	if done.InUse, err = check(s, now); err != nil {
		return done, err
	}
	if err := r.checkConsumers(ctx, s); err != nil {
		return done, err
	}
	if err := r.o.Finish(s.Name); err != nil { // while it has the mark: without both it is restored again
		return done, err
	}
	if r.link.clustered() {
		if err := pause(ctx, unmarkAfter); err != nil {
			return done, err
		}
	}
	return done, r.unmark(ctx, s.Name)
}

// pause waits for d, or fails when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// sizes decides what the restored stream may hold, and how often it is kept.
func (r restorer) sizes(t Target) sizes {
	want := sizesOf(t.Stream.Config)
	if t.Standing != Absent {
		want = sizesOf(t.now.Config)
	} else if !r.link.clustered() {
		want.Replicas = 1
	}
	if r.o.Replicas > 0 {
		want.Replicas = r.o.Replicas
	}
	return want
}

// check compares the server's account of a restored stream with the manifest. The server has stored the file up to its end
// mark, or it would have said so; this finds what limits have removed again. inUse is true when somebody was faster than this
// look.
func check(s Stream, now described) (inUse bool, err error) {
	have := now.State
	lost := have.LastSeq < s.LastSeq || have.Messages < s.Messages && !mayShrink(now.Config)
	foreign := have.Messages > s.Messages+(have.LastSeq-min(s.LastSeq, have.LastSeq))
	if lost || foreign {
		return false, fmt.Errorf("the server has %d messages up to %d, the snapshot %d up to %d", have.Messages, have.LastSeq, s.Messages,
			s.LastSeq)
	}
	return have.Messages != s.Messages || have.LastSeq != s.LastSeq || s.Messages > 0 && have.FirstSeq != s.FirstSeq, nil
}

// checkConsumers waits until every durable consumer is there, no further back than it was.
func (r restorer) checkConsumers(ctx context.Context, s Stream) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for _, c := range s.Consumers {
		if !c.Durable {
			continue
		}
		for {
			floor, ok, err := r.link.ackFloor(ctx, s.Name, c.Name)
			if err == nil && ok && floor >= c.AckFloor {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("consumer %s is not back: found %t, acknowledged up to %d instead of %d: %w", c.Name, ok, floor, c.AckFloor,
					errors.Join(err, ctx.Err()))
			}
		}
	}
	return nil
}

// unmark says that a stream is complete.
func (r restorer) unmark(ctx context.Context, stream string) error {
	now, _, err := r.link.info(ctx, stream)
	if err != nil || markOf(now.Config) == "" {
		return err
	}
	config, err := withSizes(now.Config, sizesOf(now.Config), "")
	if err != nil {
		return err
	}
	var answer struct{}
	if err := r.link.ask(ctx, "STREAM.UPDATE."+stream, config, &answer); err != nil {
		return fmt.Errorf("mark as complete: %w", err)
	}
	return nil
}
