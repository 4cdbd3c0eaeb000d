package testkit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// failing is a test that notes why it fails instead of ending.
type failing struct {
	testing.TB
	why string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) { f.why = fmt.Sprintf(format, args...); panic(f) }

func TestAwaitLooksUntilItIsSo(t *testing.T) {
	t.Parallel()
	looks := 0
	Eventually(t, "the third look", func() bool { looks++; return looks == 3 })
	require.Equal(t, 3, looks)
}

func TestAwaitSaysWhatWasWrongLast(t *testing.T) {
	t.Parallel()
	f := &failing{TB: t}
	require.Panics(t, func() {
		Await(f, 50*time.Millisecond, "the door", func(context.Context) error { return errors.New("it is closed") })
	})
	require.Equal(t, "waited 50ms for the door: it is closed", f.why)
}
