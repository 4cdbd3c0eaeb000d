package supervise

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

func TestChildRunsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	copied := &lines{}
	c, dir, log := supervised(t, "good", func(s *Spec) { s.Output = copied })
	require.Equal(t, Status{State: Stopped}, c.Status())
	for run := range 2 { // and can be started again
		c.Start()
		require.NoError(t, c.WaitRunning(t.Context()))
		s := c.Status()
		require.Equal(t, Running, s.State)
		testkit.Eventually(t, "child runs", func() bool { return len(notes(t, dir, "good started")) == run+1 })
		testkit.Eventually(t, "output is logged", func() bool { return strings.Contains(log.String(), "own log line") })
		require.NoError(t, c.Stop(t.Context()))
		require.NoError(t, c.Stop(t.Context()), "a second stop is no error")
		require.Equal(t, Status{State: Stopped}, c.Status())
		require.False(t, alive(s.PID))
	}
	require.Len(t, notes(t, dir, "good asked to end"), 2)
	require.Contains(t, log.String(), `{"level":"info","child":"good","message":"plain line"}`)
	require.Contains(t, log.String(), `{"level":"warn","child":"good","slots":4,"message":"own log line"}`)
	require.Equal(t, strings.Repeat("plain line\n"+`{"level":"warn","service":"worker","slots":4,"message":"own log line"}`+"\n", 2),
		copied.String(), "as it is")
}

// A question that waits for an answer has no end of line, and is what an operator must see.
func TestQuestionIsLoggedWhileTheChildWaits(t *testing.T) {
	t.Parallel()
	copied := &lines{}
	c, _, log := supervised(t, "asks", func(s *Spec) { s.Output, s.StopTimeout = copied, time.Second })
	c.Start()
	testkit.Eventually(t, "the question is logged", func() bool { return strings.Contains(log.String(), `"message":"Password: "`) })
	require.Equal(t, "Password: ", copied.String())
}

func TestCrashedChildIsStartedAgainWithGrowingPauses(t *testing.T) {
	t.Parallel()
	c, dir, log := supervised(t, "crash", nil)
	c.Start()
	testkit.Eventually(t, "child is restarted", func() bool { return len(notes(t, dir, "crash started")) >= 4 })
	testkit.Eventually(t, "and counted", func() bool { s := c.Status(); return s.State == Failing && s.Restarts >= 3 })
	require.Equal(t, "exit status 3", c.Status().Error)
	for _, pause := range []string{"10ms", "20ms", "40ms", "80ms"} {
		require.Contains(t, log.String(), `"again_in":"`+pause+`"`)
	}
	require.NoError(t, c.Stop(t.Context()), "a stop ends the pause")
	require.Equal(t, Stopped, c.Status().State)
}

func TestChildThatRanLongEnoughStartsOverWithTheShortestPause(t *testing.T) {
	t.Parallel()
	c, dir, log := supervised(t, "crash", func(s *Spec) { s.RestartMax = time.Nanosecond })
	c.Start()
	testkit.Eventually(t, "child is restarted", func() bool { return len(notes(t, dir, "crash started")) >= 3 })
	require.NotContains(t, log.String(), `"again_in":"20ms"`)
}

// "exit status 3" alone sends an operator to the log files of another host.
func TestWhatAChildSaidLastIsToldWithItsEnd(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]string{
		"DATABASE_URL: no such role": "exit status 3; its last line: DATABASE_URL: no such role",
		`{"level":"error","service":"worker","error":"no such role","message":"cannot start"}`://
		"exit status 3; its last line: cannot start: no such role",
		`{"level":"info","message":"stopped"}`: "exit status 3; its last line: stopped",
	} {
		c, _, _ := supervised(t, "crash", func(s *Spec) { s.Env = append(s.Env, "SUPERVISE_TEST_SAYS="+says) })
		c.Start()
		testkit.Eventually(t, "it has ended", func() bool { return c.Status().Error != "" })
		require.Equal(t, want, c.Status().Error)
	}
}

func TestCommandThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	c, _, _ := supervised(t, "none", func(s *Spec) { s.Command = []string{"/no/such/program"} })
	c.Start()
	testkit.Eventually(t, "child fails", func() bool { return c.Status().State == Failing })
	require.Contains(t, c.Status().Error, "no such file")
	ctx, cancel := context.WithTimeout(t.Context(), poll)
	defer cancel()
	require.ErrorContains(t, c.WaitRunning(ctx), "no such file")
}

func TestChildIsRunningOnlyWhenItIsReady(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c, _, _ := supervised(t, "good", func(s *Spec) {
		s.Ready = func(context.Context) error {
			if asked.Add(1) < 5 {
				return errors.New("not yet")
			}
			return nil
		}
	})
	c.Start()
	testkit.Eventually(t, "child is starting", func() bool { return c.Status().State == Starting })
	require.NoError(t, c.WaitRunning(t.Context()))
	require.EqualValues(t, 5, asked.Load())
}

// A program that answers before the child has started is not the child: nothing supervises it, and it would prove a patch.
func TestChildIsNotStartedWhileAnotherProgramAnswers(t *testing.T) {
	t.Parallel()
	var foreign atomic.Bool
	foreign.Store(true)
	c, dir, _ := supervised(t, "good", func(s *Spec) {
		s.Ready = func(context.Context) error {
			if foreign.Load() || len(notes(t, s.Dir, "good started")) > 0 {
				return nil
			}
			return errors.New("nobody answers")
		}
	})
	c.Start()
	testkit.Eventually(t, "it is not started", func() bool { return c.Status().State == Failing })
	require.Contains(t, c.Status().Error, "another program answers")
	require.Empty(t, notes(t, dir, "good started"))
	foreign.Store(false)
	require.NoError(t, c.WaitRunning(t.Context()))
	require.Len(t, notes(t, dir, "good started"), 1)
}

func TestChildThatDoesNotEndIsKilledWithAllThatItStarted(t *testing.T) {
	t.Parallel()
	c, dir, _ := supervised(t, "family", func(s *Spec) { s.StopTimeout = 100 * time.Millisecond })
	c.Start()
	testkit.Eventually(t, "family runs", func() bool {
		return len(notes(t, dir, "stubborn started")) == 1 && len(notes(t, dir, "family started")) == 1
	})
	require.NoError(t, c.Stop(t.Context()))
	testkit.Eventually(t, "grandchild is gone", func() bool { return !alive(notes(t, dir, "stubborn started")[0]) })

	s, dir, _ := supervised(t, "stubborn", func(s *Spec) { s.StopTimeout = 100 * time.Millisecond })
	s.Start()
	testkit.Eventually(t, "child runs", func() bool { return len(notes(t, dir, "stubborn started")) == 1 })
	require.NoError(t, s.Stop(t.Context()))
	require.False(t, alive(notes(t, dir, "stubborn started")[0]))
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"":                              nil,
		"  a  b\tc\n":                   {"a", "b", "c"},
		`'a b' "c d" e' f'`:             {"a b", "c d", "e f"},
		`a\ b "c\"d\n" 'e\'`:            {"a b", `c"d\n`, `e\`},
		`python3 manage.py "" --x='$Y'`: {"python3", "manage.py", "", "--x=$Y"},
	} {
		got, err := Split(line, false)
		require.NoError(t, err, line)
		require.Equal(t, want, got, line)
	}
	got, err := Split(`"C:\Program Files\Python\python.exe" manage.py`, true)
	require.NoError(t, err)
	require.Equal(t, []string{`C:\Program Files\Python\python.exe`, "manage.py"}, got)
	for _, wrong := range []string{`a 'b`, `a "b`, `a \`} {
		_, err := Split(wrong, false)
		require.Error(t, err, wrong)
	}
}
