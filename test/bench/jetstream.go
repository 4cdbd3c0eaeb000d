package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/freeport"
)

// jetStream is a bare NATS server of the version that a Booster embeds: one replica, a work queue, and acks that the server
// confirms. It is what ours would be without rows.
type jetStream struct {
	always bool

	server   *process
	conn     *nats.Conn
	js       jetstream.JetStream
	consumer jetstream.Consumer
	handle   func(n int)
	consume  jetstream.ConsumeContext
	messages chan jetstream.Msg
	ackers   sync.WaitGroup
	done     atomic.Int64
	failed   atomic.Pointer[error]
}

const (
	serveCommand = "serve-jetstream" // of this program: the server
	jsAckers     = 64
	jsSubject    = "bench.step"
)

func (q *jetStream) open(ctx context.Context, s *site, handle func(n int)) error {
	q.handle = handle
	dir, err := s.fresh("jetstream")
	if err != nil {
		return err
	}
	port, err := freeport.Take(ctx)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	q.server, err = command{name: "nats-server", dir: dir, argv: []string{
		self, serveCommand, strconv.Itoa(port), filepath.Join(dir, "store"), strconv.FormatBool(q.always),
	}}.start()
	if err != nil {
		return err
	}
	err = q.server.ready(ctx, func(context.Context) (err error) {
		q.conn, err = nats.Connect("nats://127.0.0.1:" + strconv.Itoa(port))
		return err
	})
	if err != nil {
		return err
	}
	if q.js, err = jetstream.New(q.conn); err != nil {
		return err
	}
	stream, err := q.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "BENCH", Subjects: []string{jsSubject}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: 1,
	})
	if err != nil {
		return err
	}
	q.consumer, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 2000, AckWait: time.Minute,
	})
	return err
}

func (q *jetStream) submit(ctx context.Context, n int) error {
	body, err := json.Marshal(payload{n, pad})
	if err != nil {
		return err
	}
	_, err = q.js.Publish(ctx, jsSubject, body)
	return err
}

func (q *jetStream) begin(context.Context) (time.Time, error) {
	q.messages = make(chan jetstream.Msg, 1000)
	for range jsAckers {
		q.ackers.Go(func() {
			for msg := range q.messages {
				q.run(msg)
			}
		})
	}
	var err error
	q.consume, err = q.consumer.Consume(func(msg jetstream.Msg) { q.messages <- msg }, jetstream.PullMaxMessages(1000))
	return time.Time{}, err
}

func (q *jetStream) run(msg jetstream.Msg) {
	var p payload
	err := json.Unmarshal(msg.Data(), &p)
	if err == nil {
		q.handle(p.N)
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		err = msg.DoubleAck(ctx)
	}
	if err != nil {
		q.failed.Store(&err)
		return
	}
	q.done.Add(1)
}

func (q *jetStream) finished(_ context.Context, steps int) (bool, error) {
	if err := q.failed.Load(); err != nil {
		return false, *err
	}
	return q.done.Load() >= int64(steps), nil
}

func (q *jetStream) servers() []*process { return []*process{q.server} }

func (q *jetStream) close() {
	if q.consume != nil {
		q.consume.Stop()
		<-q.consume.Closed()
		close(q.messages)
		q.ackers.Wait()
	}
	if q.conn != nil {
		q.conn.Close()
	}
	q.server.end()
}

// serveJetStream is the server's process: port, directory, whether to flush every write.
func serveJetStream(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s takes a port, a directory, and true or false", serveCommand)
	}
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	opts := &server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: args[1], SyncAlways: args[2] == "true", NoSigs: true, NoLog: true,
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	s.Start()
	<-end
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}
