package httpexec

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/worker"
)

const (
	maxErrorBytes = 200            // of an answer's body that an error repeats
	maxRetryAfter = 24 * time.Hour // longer waits are cut to this
)

// judge turns an answer into what becomes of the step.
func judge(res *http.Response, body []byte) error {
	code := res.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	err := fmt.Errorf("receiver answered %s", describe(res, body))
	switch {
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		if wait := retryAfter(res.Header.Get("Retry-After"), time.Now()); wait > 0 {
			return &worker.RetryAfter{Wait: wait, Err: err}
		}
		return err
	default:
		return fmt.Errorf("%w: %w", worker.ErrPermanent, err)
	}
}

// describe is status and the beginning of the body, in one line.
func describe(res *http.Response, body []byte) string {
	text := fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode))
	if to := res.Header.Get("Location"); to != "" && res.StatusCode < 400 {
		return text + " to " + strconv.Quote(to) + "; redirects are not followed, set WORKER_HTTP_URL to the final address"
	}
	if len(body) > maxErrorBytes {
		body = body[:maxErrorBytes]
	}
	if said := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "")), " "); said != "" {
		text += ": " + said
	}
	return text
}

// retryAfter reads seconds or an HTTP date (RFC 9110, section 10.2.3). 0 means none, in the past, or not understood.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
