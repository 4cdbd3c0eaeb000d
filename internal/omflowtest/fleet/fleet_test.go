package fleet

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestServersAwayAtTheSameTimeAreCounted(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	var a, b []Span
	a = Extend(a, at(0), at(1), false)
	for s := 2; s < 6; s++ {
		a = Extend(a, at(s), at(s+1), true)
	}
	a = Extend(a, at(6), at(7), false)
	require.Equal(t, []Span{{From: at(3), Until: at(5)}}, a)
	b = Extend(Extend(b, at(6), at(7), true), at(8), at(9), true)
	o := &Outages{away: map[string][]Span{"a": a, "b": b}}
	require.Equal(t, 1, o.Most())
	require.Equal(t, 2*time.Second, o.Since("a", at(2)))
	require.Zero(t, o.Since("a", at(4)))
	o.away["c"] = []Span{{From: at(4), Until: at(7)}}
	require.Equal(t, 2, o.Most())
	o.away["d"] = []Span{{From: at(5), Until: at(5)}}
	require.Equal(t, 3, o.Most())
	require.Zero(t, (&Outages{}).Most())
}

func TestOverlapOfSpans(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	one := []Span{{at(0), at(10), false}, {at(20), at(30), true}}
	for _, c := range []struct {
		other []Span
		since int
		want  int
	}{
		{nil, 0, 0},
		{[]Span{{at(10), at(20), false}}, 0, 0},
		{[]Span{{at(8), at(22), false}}, 0, 4},
		{[]Span{{at(8), at(22), false}}, 9, 3},
	} {
		require.Equal(t, time.Duration(c.want)*time.Second, Overlap(one, c.other, at(c.since)), "%v since %d", c.other, c.since)
	}
}

// A server that refuses, and one that is not there, fail their requests and nothing else.
func TestFeedAndWatch(t *testing.T) {
	t.Parallel()
	var filed atomic.Int64
	var down atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load():
			http.Error(w, "no", http.StatusServiceUnavailable)
		case r.URL.Path == "/file":
			filed.Add(1)
			fmt.Fprintf(w, `{"filed":%s}`, r.URL.Query().Get("n"))
		default:
			fmt.Fprint(w, `{"version":"1.1.4"}`)
		}
	}))
	t.Cleanup(web.Close)
	s := Server{"one", web.URL}
	version, err := s.Version(t.Context(), web.Client())
	require.NoError(t, err)
	require.Equal(t, "1.1.4", version)

	watch := WatchOutages(t.Context(), web.Client(), []Server{s})
	var asked atomic.Int64
	f := StartFeed(t.Context(), web.Client(), []Server{s}, Pace{
		time.Millisecond, 2 * time.Millisecond,
		func(context.Context) bool { asked.Add(1); return true },
	})
	testkit.Eventually(t, "tickets", func() bool { return f.Tally().Filed > 2 })
	down.Store(true)
	testkit.Eventually(t, "refusals", func() bool { return f.Tally().Failed > 2 })
	testkit.Eventually(t, "the outage", func() bool { return watch.Most() == 1 })
	f.Stop()
	watch.Stop()
	tally := f.Tally()
	require.EqualValues(t, filed.Load(), tally.Filed)
	require.ErrorContains(t, tally.Cause, "one answers 503")
	require.Positive(t, asked.Load())
	require.NoError(t, tally.Check(tally.Filed))
	require.NoError(t, tally.Check(tally.Filed+tally.Failed))
	require.Error(t, tally.Check(tally.Filed-1))
	require.Error(t, tally.Check(tally.Filed+tally.Failed+1))
}
