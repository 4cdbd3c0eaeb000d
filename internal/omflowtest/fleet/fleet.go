// Package fleet is what the demo and the scenarios do with the web processes of several stand-ins: file tickets, ask for versions, and
// watch when servers are without service. It starts no process: the demo does that on every system, the scenarios with means of Linux.
package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

// Server is the web process of a stand-in.
type Server struct{ Name, URL string }

// File asks the server to file n tickets, and returns how many it has confirmed. After an error some may be filed or not.
func (s Server) File(ctx context.Context, client *http.Client, n int) (int, error) {
	var f omflowtest.Filed
	err := s.ask(ctx, client, http.MethodPost, fmt.Sprintf("/file?n=%d", n), &f)
	return int(f.Filed), err
}

// Version is the version that the web process was started with: its home may be newer. It fails also when the server says that it is
// not healthy.
func (s Server) Version(ctx context.Context, client *http.Client) (string, error) {
	var health struct {
		Version string `json:"version"`
	}
	err := s.ask(ctx, client, http.MethodGet, "/health/", &health)
	return health.Version, err
}

func (s Server) ask(ctx context.Context, client *http.Client, method, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", s.Name, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s answers: %w", s.Name, err)
	}
	return nil
}
