package patch

import (
	"context"
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// An artifact may be removed, replaced, or lose chunks. Each is noticed without reading it, and publishing the same file again mends it.
func TestArtifactsThatAreNotStoredAsAnnounced(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	objects, err := js.ObjectStore(ctx, bus.ObjectPatches)
	require.NoError(t, err)
	stream, err := js.Stream(ctx, bus.ObjectStream(bus.ObjectPatches))
	require.NoError(t, err)
	damages := map[string]func(a Announcement){
		"none":    func(Announcement) {},
		"removed": func(a Announcement) { require.NoError(t, objects.Delete(ctx, a.Object)) },
		"replaced": func(a Announcement) {
			_, err := objects.PutString(ctx, a.Object, "something else")
			require.NoError(t, err)
		},
		"no chunks": func(a Announcement) {
			info, err := objects.GetInfo(ctx, a.Object)
			require.NoError(t, err)
			require.NoError(t, stream.Purge(ctx, jetstream.WithPurgeSubject(bus.ChunksSubject(info.NUID))))
		},
		"a chunk less": func(a Announcement) {
			info, err := objects.GetInfo(ctx, a.Object)
			require.NoError(t, err)
			require.NoError(t, stream.Purge(ctx, jetstream.WithPurgeSubject(bus.ChunksSubject(info.NUID)), jetstream.WithPurgeKeep(1)))
		},
	}
	var announced []Announcement
	files := map[string]string{}
	wanted := map[string]bool{}
	for damage, do := range damages {
		noise := make([]byte, 1<<20) // several chunks
		_, err := rand.Read(noise)
		require.NoError(t, err)
		artifact, _ := build(t, map[string]string{"omflow/noise": string(noise)}, Options{Note: damage})
		file := write(t, artifact)
		a, err := Publish(ctx, js, file, trusted, nil)
		require.NoError(t, err)
		do(a)
		announced, files[a.ID] = append(announced, a), file
		if damage != "none" {
			wanted[damage] = true
		}
	}
	unstored, err := Unstored(ctx, js, announced)
	require.NoError(t, err)
	found := map[string]bool{}
	for _, a := range unstored {
		found[a.Note] = true
		require.ErrorIs(t, Fetch(ctx, js, a, io.Discard), ErrMissing, a.Note)
	}
	require.Equal(t, wanted, found)
	for _, a := range unstored {
		_, err := Publish(ctx, js, files[a.ID], trusted, nil)
		require.NoError(t, err, a.Note)
		require.NoError(t, Fetch(ctx, js, a, io.Discard), a.Note)
	}
	unstored, err = Unstored(ctx, js, announced)
	require.NoError(t, err)
	require.Empty(t, unstored)
}
