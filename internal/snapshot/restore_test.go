package snapshot

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// A restore that ends in the middle of any stream is finished by the next one, which does not need Force and does nothing twice.
func TestRestoreGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	fill(t, before.JS)
	want := see(t, before.JS)
	dir, m := taken(t, before.JS)
	for i, s := range m.Streams {
		for _, sent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s sent %t", s.Name, sent), func(t *testing.T) {
				t.Parallel()
				after := fresh(t).Client()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done, err := Restore(ctx, after.JS, opened(t, dir), RestoreOptions{Progress: func(p Progress) {
					if p.Stream == s.Name && (p.Done > 0) == sent {
						cancel()
					}
				}})
				require.ErrorIs(t, err, context.Canceled)
				require.Len(t, done, i)
				done, err = Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{})
				require.NoError(t, err)
				for j, d := range done {
					require.Equal(t, j < i, d.Skipped, d.Stream.Name)
				}
				equal(t, want, see(t, after.JS))
			})
		}
	}
}

// The server goes away in the middle of WORK and comes back with what it had: a service goes on by itself, a command ends and
// is given again.
func TestBoosterStopsDuringARestore(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	publish(t, before.JS, "q", 400, 60_000)
	want := see(t, before.JS)
	dir, _ := taken(t, before.JS)
	for _, service := range []bool{true, false} {
		t.Run(fmt.Sprintf("service %t", service), func(t *testing.T) {
			t.Parallel()
			b := fresh(t)
			after, err := bus.Dial(b.Config(), t.Name())
			require.NoError(t, err)
			defer after.Close()
			if service {
				after = b.Client()
			}
			stopped := false
			_, err = Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{Progress: func(p Progress) {
				if p.Stream == bus.StreamWork && p.Done > 1<<20 && !stopped {
					stopped = true
					b.Stop()
					if service {
						b.Start()
					}
				}
			}})
			if !service {
				require.ErrorIs(t, err, errInterrupted)
				require.ErrorContains(t, err, bus.StreamWork)
				b.Start() // a Booster that starts takes the mark of what was interrupted away
				after = b.Client()
				_, err = Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{Force: true})
			}
			require.NoError(t, err)
			equal(t, want, see(t, after.JS))
		})
	}
}

func TestOccupiedStreamsAreReplacedWithForceOnly(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	fill(t, before.JS)
	want := see(t, before.JS)
	dir, _ := taken(t, before.JS)

	after := fresh(t).Client()
	publish(t, after.JS, "other", 3, 10)
	kept := see(t, after.JS)
	_, err := Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{})
	var occupied *OccupiedError
	require.ErrorAs(t, err, &occupied)
	require.EqualError(t, err, "the bus is in use: WORK (3 messages)")
	equal(t, kept, see(t, after.JS))

	_, err = Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{Force: true})
	require.NoError(t, err)
	equal(t, want, see(t, after.JS))
}

// Two young Boosters may agree in every number; the times of their messages tell them apart.
func TestEqualNumbersAreNotEqualMessages(t *testing.T) {
	t.Parallel()
	one, two := fresh(t).Client(), fresh(t).Client()
	publish(t, one.JS, "q", 1, 10)
	publish(t, two.JS, "r", 1, 10)
	dir, m := taken(t, one.JS)
	targets, err := Compare(t.Context(), two.JS, m)
	require.NoError(t, err)
	for _, target := range targets {
		standing := Same // nothing was ever stored in the others
		if target.Stream.Name == bus.StreamWork {
			standing = Occupied
		}
		require.Equal(t, standing, target.Standing, target.Stream.Name)
	}
	_, err = Restore(t.Context(), two.JS, opened(t, dir), RestoreOptions{Force: true})
	require.NoError(t, err)
	equal(t, see(t, one.JS), see(t, two.JS))
}

// Limits belong to the machine: a stream that is there lends its own, and one that is too small is found before anything is removed.
func TestSizesOfTheTarget(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	publish(t, before.JS, "q", 2000, 600)
	dir, _ := taken(t, before.JS)

	layout := fresh(t)
	small := layout.Client()
	require.NoError(t, bus.Ensure(t.Context(), small.JS, bus.Layout{StoreBytes: 1 << 20, Replicas: 1}))
	_, err := small.JS.Publish(t.Context(), bus.AnnounceSubject("p"), nil)
	require.NoError(t, err)
	kept := see(t, small.JS)
	_, err = Restore(t.Context(), small.JS, opened(t, dir), RestoreOptions{Force: true})
	require.ErrorIs(t, err, ErrNoRoom)
	require.ErrorContains(t, err, "WORK")
	equal(t, kept, see(t, small.JS))

	require.NoError(t, bus.Ensure(t.Context(), small.JS, bus.Layout{StoreBytes: 1 << 23, Replicas: 1}))
	_, err = Restore(t.Context(), small.JS, opened(t, dir), RestoreOptions{Force: true})
	require.NoError(t, err)
	work, err := small.JS.Stream(t.Context(), bus.StreamWork)
	require.NoError(t, err)
	require.Less(t, work.CachedInfo().Config.MaxBytes, int64(1<<23))
	require.EqualValues(t, 2000, work.CachedInfo().State.Msgs)
}

// Without streams of its own, as a Booster that is being grown, the target gets those of the snapshot.
func TestOntoABusWithoutStreams(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	fill(t, before.JS)
	want := see(t, before.JS)
	dir, _ := taken(t, before.JS)
	after := fresh(t).Client()
	names := after.JS.StreamNames(t.Context())
	for name := range names.Name() {
		require.NoError(t, after.JS.DeleteStream(t.Context(), name))
	}
	_, err := Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{Replicas: 1})
	require.NoError(t, err)
	equal(t, want, see(t, after.JS))
	_, err = after.JS.KeyValue(t.Context(), bus.BucketNodes)
	require.ErrorIs(t, err, jetstream.ErrBucketNotFound, "heartbeats are not in a snapshot")
}

// The look at a restored stream must find what limits have removed, and must not take workers that are quick for a loss.
func TestCheck(t *testing.T) {
	t.Parallel()
	limits, queue := `{"retention":"limits"}`, `{"retention":"workqueue"}`
	s := Stream{Messages: 10, FirstSeq: 5, LastSeq: 20}
	for _, c := range []struct {
		name, config string
		now          state
		inUse, bad   bool
	}{
		{"equal", limits, state{Messages: 10, FirstSeq: 5, LastSeq: 20}, false, false},
		{"dropped by a limit", limits, state{Messages: 9, FirstSeq: 6, LastSeq: 20}, false, true},
		{"acknowledged", queue, state{Messages: 9, FirstSeq: 6, LastSeq: 20}, true, false},
		{"all acknowledged", queue, state{Messages: 0, FirstSeq: 21, LastSeq: 20}, true, false},
		{"published", limits, state{Messages: 11, FirstSeq: 5, LastSeq: 21}, true, false},
		{"key overwritten", limits, state{Messages: 10, FirstSeq: 6, LastSeq: 21}, true, false},
		{"expired", `{"retention":"limits","max_age":1}`, state{Messages: 9, FirstSeq: 6, LastSeq: 20}, true, false},
		{"end missing", queue, state{Messages: 9, FirstSeq: 5, LastSeq: 19}, false, true},
		{"from nowhere", queue, state{Messages: 11, FirstSeq: 5, LastSeq: 20}, false, true},
	} {
		inUse, err := check(s, described{Config: []byte(c.config), State: c.now})
		require.Equal(t, c.bad, err != nil, "%s: %v", c.name, err)
		require.Equal(t, c.inUse, inUse, c.name)
	}
}
