package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const healthAnswer = 5 * time.Second // a server that takes longer is not healthy

// health returns a check that succeeds when url answers 2xx, or nil without a URL.
func health(url string) func(ctx context.Context) error {
	if url == "" {
		return nil
	}
	// No connection is kept: the next answer may come from the next process.
	client := &http.Client{Timeout: healthAnswer, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("%s answers %s", url, resp.Status)
		}
		return nil
	}
}
