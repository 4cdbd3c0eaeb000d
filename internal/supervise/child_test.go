package supervise

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
		eventually(t, func() bool { return len(notes(t, dir, "good started")) == run+1 }, "child runs")
		eventually(t, func() bool { return strings.Contains(log.String(), "own log line") }, "output is logged")
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
	eventually(t, func() bool { return strings.Contains(log.String(), `"message":"Password: "`) }, "the question is logged")
	require.Equal(t, "Password: ", copied.String())
}

func TestCrashedChildIsStartedAgainWithGrowingPauses(t *testing.T) {
	t.Parallel()
	c, dir, log := supervised(t, "crash", nil)
	c.Start()
	eventually(t, func() bool { return len(notes(t, dir, "crash started")) >= 4 }, "child is restarted")
	eventually(t, func() bool { s := c.Status(); return s.State == Failing && s.Restarts >= 3 }, "and counted")
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
	eventually(t, func() bool { return len(notes(t, dir, "crash started")) >= 3 }, "child is restarted")
	require.NotContains(t, log.String(), `"again_in":"20ms"`)
}

// "exit status 3" alone sends an operator to the log files of another host.
func TestWhatAChildSaidLastIsToldWithItsEnd(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]string{
		"DATABASE_URL: no such role": "exit status 3; its last line: DATABASE_URL: no such role",
		`{"level":"error","service":"worker","error":"no such role","message":"cannot start"}`: "exit status 3; its last line: cannot start: no such role",
		`{"level":"info","message":"stopped"}`:                                                 "exit status 3; its last line: stopped",
	} {
		c, _, _ := supervised(t, "crash", func(s *Spec) { s.Env = append(s.Env, "SUPERVISE_TEST_SAYS="+says) })
		c.Start()
		eventually(t, func() bool { return c.Status().Error != "" }, "it has ended")
		require.Equal(t, want, c.Status().Error)
	}
}

func TestCommandThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	c, _, _ := supervised(t, "none", func(s *Spec) { s.Command = []string{"/no/such/program"} })
	c.Start()
	eventually(t, func() bool { return c.Status().State == Failing }, "child fails")
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
	eventually(t, func() bool { return c.Status().State == Starting }, "child is starting")
	require.NoError(t, c.WaitRunning(t.Context()))
	require.EqualValues(t, 5, asked.Load())
}

// Whoever answers before the child has started is not the child: nobody supervises that program, and a patch would be proven by it.
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
	eventually(t, func() bool { return c.Status().State == Failing }, "it is not started")
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
	eventually(t, func() bool {
		return len(notes(t, dir, "stubborn started")) == 1 && len(notes(t, dir, "family started")) == 1
	}, "family runs")
	require.NoError(t, c.Stop(t.Context()))
	eventually(t, func() bool { return !alive(notes(t, dir, "stubborn started")[0]) }, "grandchild is gone")

	s, dir, _ := supervised(t, "stubborn", func(s *Spec) { s.StopTimeout = 100 * time.Millisecond })
	s.Start()
	eventually(t, func() bool { return len(notes(t, dir, "stubborn started")) == 1 }, "child runs")
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
