package httpexec

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/worker"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status     int
		retryAfter string
		done       bool
		permanent  bool
		wait       time.Duration
	}{
		{status: 200, done: true},
		{status: 204, done: true},
		{status: 301, permanent: true},
		{status: 304, permanent: true},
		{status: 307, permanent: true},
		{status: 400, permanent: true, retryAfter: "5"},
		{status: 404, permanent: true},
		{status: 409, permanent: true},
		{status: 422, permanent: true},
		{status: 408},
		{status: 425},
		{status: 429},
		{status: 429, retryAfter: "120", wait: 2 * time.Minute},
		{status: 500},
		{status: 503, retryAfter: "soon"},
		{status: 503, retryAfter: "99999999999999", wait: maxRetryAfter},
	} {
		e, _ := serve(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
			if c.retryAfter != "" {
				w.Header().Set("Retry-After", c.retryAfter)
			}
			if c.status/100 == 3 {
				w.Header().Set("Location", "/elsewhere")
			}
			w.WriteHeader(c.status)
		})
		err := e.Execute(t.Context(), newStep())
		if c.done {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err, c)
		require.NotErrorIs(t, err, worker.ErrNotStarted)
		if c.permanent {
			require.ErrorIs(t, err, worker.ErrPermanent, c)
			continue
		}
		require.NotErrorIs(t, err, worker.ErrPermanent, c)
		var again *worker.RetryAfter
		if c.wait == 0 {
			require.NotErrorAs(t, err, &again, c)
			continue
		}
		require.ErrorAs(t, err, &again, c)
		require.Equal(t, c.wait, again.Wait)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-1": 0, "x": 0, "7": 7 * time.Second,
		now.Add(time.Minute).Format(http.TimeFormat):     time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat):    0,
		now.Add(100 * time.Hour).Format(http.TimeFormat): maxRetryAfter,
		"18446744073709551615":                           maxRetryAfter,
	} {
		require.Equal(t, want, retryAfter(value, now), value)
	}
}

func TestErrorsAreShortAndInOneLine(t *testing.T) {
	t.Parallel()
	e, _ := serve(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "no such\n\tform \xff"+strings.Repeat("長", 1<<20))
	})
	err := e.Execute(t.Context(), newStep())
	require.ErrorContains(t, err, "receiver answered 400 Bad Request: no such form 長長")
	require.Less(t, len(err.Error()), maxErrorBytes+100)
	require.NotContains(t, err.Error(), "\ufffd")
}
