package supervise

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

func TestCommandRunsToItsEnd(t *testing.T) {
	t.Parallel()
	log := &lines{}
	spec := Spec{
		Name: "pip", Command: []string{"/bin/sh", "-c", "for i in 1 2 3 4 5 6 7; do echo line $i; done; test $X"},
		Env: []string{"X=x"}, StopTimeout: time.Second,
	}
	last, err := Once(t.Context(), spec, zerolog.New(log))
	require.NoError(t, err)
	require.Equal(t, []string{"line 3", "line 4", "line 5", "line 6", "line 7"}, last)
	require.Equal(t, 7, strings.Count(log.String(), `"child":"pip","message":"line`))

	spec.Env = []string{}
	_, err = Once(t.Context(), spec, zerolog.Nop())
	require.EqualError(t, err, "exit status 1")
	spec.Command = []string{"no-such-program"}
	_, err = Once(t.Context(), spec, zerolog.Nop())
	require.ErrorContains(t, err, "not found")
}

// It ends with its context, with everything that it has started, and does not even begin when that has ended before.
func TestCommandEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spec := Spec{
		Name: "family", Command: []string{os.Args[0]}, StopTimeout: 100 * time.Millisecond,
		Env: append(os.Environ(), roleVar+"=family", dirVar+"="+dir),
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Once(ctx, spec, zerolog.Nop())
		done <- err
	}()
	testkit.Eventually(t, "family runs", func() bool {
		return len(notes(t, dir, "stubborn started")) == 1 && len(notes(t, dir, "family started")) == 1
	})
	cancel(enough)
	require.ErrorIs(t, <-done, enough)
	require.False(t, alive(notes(t, dir, "family started")[0]))
	testkit.Eventually(t, "grandchild is gone", func() bool { return !alive(notes(t, dir, "stubborn started")[0]) })

	_, err := Once(ctx, spec, zerolog.Nop())
	require.ErrorIs(t, err, enough)
	require.Len(t, notes(t, dir, "family started"), 1)
}
