package omflowtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// handover brings queue items to the worker beside the server, over its Unix socket.
type handover struct {
	client  *http.Client
	timeout time.Duration
}

func newHandover(socket string, timeout time.Duration) *handover {
	var d net.Dialer
	return &handover{timeout: timeout, client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
	}}}
}

// put returns nil when the item is in the queue of the Booster. Any error leaves it to the reconciler: its row is committed.
func (h *handover) put(ctx context.Context, it work.Item) error {
	body, err := it.Encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://worker/v1/items", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // read to its end, so that the connection is used again
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("worker answers %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return nil
}

func (h *handover) close() { h.client.CloseIdleConnections() }
