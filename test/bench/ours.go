package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/freeport"
)

// ours is a Booster and a worker, as real processes. Steps are submitted to the socket of the worker, which answers when the
// row is committed and the message is stored; the worker posts each step to this process.
type ours struct {
	slots int

	site    *site
	dir     string
	booster *booster
	worker  *process
	client  *http.Client
	handler *http.Server
	gate    chan struct{} // closed: steps may go on
	handled atomic.Int64
	rows    *pgx.Conn
}

const database = "bench"

func (o *ours) open(ctx context.Context, s *site, handle func(n int)) (err error) {
	o.site, o.gate = s, make(chan struct{})
	if o.dir, err = s.fresh("ours"); err != nil {
		return err
	}
	databaseURL, err := s.postgres.create(ctx, database, "template0")
	if err != nil {
		return err
	}
	if o.booster, err = startBooster(ctx, s, o.dir); err != nil {
		return err
	}
	url, err := o.listen(ctx, handle)
	if err != nil {
		return err
	}
	socket := filepath.Join(o.dir, "worker.sock")
	o.worker, err = command{name: "worker", dir: o.dir, argv: []string{s.binary, "worker"}, env: append(o.booster.env(),
		"DATABASE_URL="+databaseURL, "WORKER_EXECUTOR=http", "WORKER_HTTP_URL="+url, "WORKER_SOCKET="+socket,
		"WORKER_SLOTS="+strconv.Itoa(o.slots))}.start()
	if err != nil {
		return err
	}
	o.client = socketClient(socket)
	if err := o.worker.ready(ctx, accepts(o.client)); err != nil {
		return err
	}
	o.rows, err = pgx.Connect(ctx, databaseURL)
	return err
}

// listen takes steps, and holds them until the gate is open.
func (o *ours) listen(ctx context.Context, handle func(n int)) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	o.handler = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var step struct {
			Param payload `json:"input_param"`
		}
		if err := json.NewDecoder(r.Body).Decode(&step); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		<-o.gate
		handle(step.Param.N)
		o.handled.Add(1)
	})}
	go func() { _ = o.handler.Serve(l) }() // until close
	return "http://" + l.Addr().String() + "/", nil
}

func (o *ours) submit(ctx context.Context, n int) error {
	body, err := json.Marshal(map[string]any{
		"name": "bench", "module_name": "bench", "method_name": "main", "input_param": payload{n, pad},
	})
	if err != nil {
		return err
	}
	return post(ctx, o.client, body)
}

// begin opens the gate: as many steps as there are slots have come up to it, and none has run.
func (o *ours) begin(context.Context) (time.Time, error) {
	close(o.gate)
	return time.Now(), nil
}

func (o *ours) finished(ctx context.Context, steps int) (bool, error) {
	if o.handled.Load() < int64(steps) {
		return false, nil
	}
	var waiting bool
	if err := o.rows.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM omflow_booster_outbox)").Scan(&waiting); err != nil || waiting {
		return false, err
	}
	n, err := o.booster.waiting(ctx)
	return n == 0, err
}

func (o *ours) servers() []*process {
	return []*process{o.booster.process, o.worker, o.site.postgres.process}
}

func (o *ours) close() {
	o.worker.end()
	o.booster.close()
	if o.handler != nil {
		_ = o.handler.Close()
	}
	if o.rows != nil {
		_ = o.rows.Close(context.Background())
	}
	_ = o.site.postgres.drop(context.Background(), database)
}

// booster is a running `omflow-booster broker` on an empty store.
type booster struct {
	*process
	port int
	conn *bus.Client
}

func startBooster(ctx context.Context, s *site, dir string) (*booster, error) {
	port, err := freeport.Take(ctx)
	if err != nil {
		return nil, err
	}
	b := &booster{port: port}
	b.process, err = command{name: "booster", dir: dir, argv: []string{s.binary, "broker"}, env: append(b.env(),
		"BOOSTER_DATA_DIR="+filepath.Join(dir, "store"), "BOOSTER_STORE_MB=4096")}.start()
	if err != nil {
		return nil, err
	}
	err = b.ready(ctx, func(ctx context.Context) error {
		c, err := bus.Dial(bus.ClientConfig{IP: "127.0.0.1", Port: port}, "bench")
		if err != nil {
			return err
		}
		c.Close()
		return nil
	})
	if err == nil {
		b.conn, err = bus.Connect(bus.ClientConfig{IP: "127.0.0.1", Port: port}, "bench", zerolog.Nop())
	}
	if err == nil {
		err = b.conn.WaitReady(ctx)
	}
	if err != nil {
		b.end()
		return nil, err
	}
	return b, nil
}

// env tells the Booster and its workers where it is.
func (b *booster) env() []string {
	return []string{"BOOSTER_IP=127.0.0.1", "BOOSTER_PORT=" + strconv.Itoa(b.port), "LOG_LEVEL=warn"}
}

// waiting is the number of messages on WORK.
func (b *booster) waiting(ctx context.Context) (uint64, error) {
	stream, err := b.conn.JS.Stream(ctx, bus.StreamWork)
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.Msgs, nil
}

func (b *booster) close() {
	if b == nil {
		return
	}
	b.conn.Close()
	b.end()
}

// socketClient speaks HTTP over a Unix socket.
func socketClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 256,
	}}
}

// accepts asks a worker whether it takes work.
func accepts(c *http.Client) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://worker/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		var health struct {
			Accepts bool `json:"accepts_work"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&health); err != nil {
			return err
		}
		if !health.Accepts {
			return errors.New("it does not take work yet")
		}
		return nil
	}
}

// post submits items to a worker.
func post(ctx context.Context, c *http.Client, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://worker/v1/items", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the worker answers %s: %s", resp.Status, answer)
	}
	return err
}
