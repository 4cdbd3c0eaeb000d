package rollout

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// Agents that have looked at the same time, and found nothing, announce one rollback. An aborted one makes room for the
// next, at once.
func TestOneRevertIsAnnounced(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	js := b.Client().JS
	for i := range 5 {
		const agents = 8
		var stands [agents]patch.Announcement
		var errs [agents]error
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for n := range agents {
			wg.Go(func() {
				<-begin
				stands[n], errs[n] = AnnounceRevert(ctx, js, patch.Announcement{
					ID: fmt.Sprint("undo", i, n), Reverts: "p1",
					StoredArtifact: patch.StoredArtifact{Object: "x", Size: 1, SHA256: strings.Repeat("0", 64)}, Note: fmt.Sprint(n),
				})
			})
		}
		close(begin)
		wg.Wait()
		for n := range agents {
			require.NoError(t, errs[n])
			require.Equal(t, stands[0], stands[n])
		}
		list, err := patch.List(ctx, js)
		require.NoError(t, err)
		require.Len(t, list, i+1)
		require.Equal(t, stands[0], list[i])

		require.NoError(t, Pause(ctx, js, list[i].ID, "ann", "wait"))
		same, _, err := FindRevert(ctx, js, "p1")
		require.NoError(t, err)
		require.Equal(t, list[i], same, "it can go on")
		require.NoError(t, Abort(ctx, js, list[i].ID, "ann", "again"))
		none, aborted, err := FindRevert(ctx, js, "p1")
		require.NoError(t, err)
		require.Empty(t, none)
		require.Equal(t, list[i].Seq, aborted)
	}
}
