package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	clusterName  = "omflow-booster"
	memoryBudget = 64 << 20 // JetStream in memory: heartbeats only
	callTimeout  = 5 * time.Second
)

// node is the embedded server of a Booster or witness, and this process's own connections to it.
type node struct {
	opts   *server.Options
	server *server.Server
	nc     *nats.Conn // as any client
	sys    *nats.Conn // system account: peers and leaders of the meta group
	js     jetstream.JetStream
	// secret is the password of the user "system" in the system account, new with each start. It must not come from nuid: that
	// counts on from a prefix which every inbox of this process shows.
	secret  string
	started time.Time
}

// nodeOptions are the options that Boosters and witnesses share.
func nodeOptions(name, dir string, sync Sync) *server.Options {
	return &server.Options{
		ServerName:         name,
		MaxPayload:         bus.MaxPayload,
		MaxPending:         1 << 30, // a worker's full request of the largest steps must not look like a client that does not read
		WriteDeadline:      10 * time.Second,
		PingInterval:       20 * time.Second, // a frozen worker is dropped within a minute
		MaxPingsOut:        2,
		NoSigs:             true, // signals belong to main
		JetStream:          true,
		StoreDir:           dir,
		JetStreamMaxMemory: memoryBudget,
		JetStreamMaxStore:  math.MaxInt64, // the limits of the streams add up to BOOSTER_STORE_MB; one more here would keep them from shrinking
		SyncInterval:       sync.Interval,
		SyncAlways:         sync.Always,
	}
}

// clustered adds what a member of the cluster needs. advertise is how other members reach it.
func clustered(opts *server.Options, listen string, port int, advertise string, routes []string) error {
	opts.Cluster = server.ClusterOpts{
		Name: clusterName, Host: listen, Port: port, Advertise: advertise,
		ConnectRetries: math.MaxInt32, PingInterval: 2 * time.Second, MaxPingsOut: 2, // a dead member is known within seconds
	}
	var err error
	opts.Routes, err = routeURLs(routes)
	return err
}

func routeURLs(addresses []string) ([]*url.URL, error) {
	urls := make([]*url.URL, 0, len(addresses))
	for _, a := range addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("address %q of a cluster member: %w", a, err)
		}
		urls = append(urls, &url.URL{Scheme: "nats", Host: a})
	}
	return urls, nil
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// startNode starts the server and waits until it has recovered its store and takes connections, or ctx ends.
func startNode(ctx context.Context, opts *server.Options, log zerolog.Logger) (*node, error) {
	n := &node{opts: opts, secret: rand.Text(), started: time.Now()}
	system := server.NewAccount(bus.SystemAccount)
	connections := map[string]struct{}{jwt.ConnectionTypeInProcess: {}, jwt.ConnectionTypeStandard: {}}
	opts.Accounts, opts.SystemAccount = []*server.Account{system}, system.GetName()
	opts.Users = []*server.User{
		{Username: "anyone"},
		{Username: "system", Password: n.secret, Account: system, AllowedConnectionTypes: connections},
	}
	opts.NoAuthUser = "anyone"
	srv, err := server.NewServer(opts.Clone())
	if err != nil {
		return nil, fmt.Errorf("make NATS server: %w", err)
	}
	n.server = srv
	srv.SetLoggerV2(natsLog{log.With().Str("from", "nats-server").Logger()}, log.GetLevel() <= zerolog.DebugLevel, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start() // recovers the store, which may take long
	}()
	if err := n.connect(ctx, started); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

func (n *node) connect(ctx context.Context, started <-chan struct{}) error {
	select {
	case <-started:
	case <-ctx.Done():
		return fmt.Errorf("recover the store in %s: %w; BOOSTER_START_TIMEOUT limits it", n.opts.StoreDir, ctx.Err())
	}
	timeout := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	if !n.server.ReadyForConnections(timeout) {
		return errors.New("NATS server does not accept connections; its log says why")
	}
	if !n.server.JetStreamEnabled() {
		return fmt.Errorf("the store in %s cannot be used; the log says why", n.opts.StoreDir)
	}
	inProcess := []nats.Option{
		nats.InProcessServer(n.server), nats.Name(n.opts.ServerName), nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
	}
	var err error
	if n.nc, err = nats.Connect("", inProcess...); err != nil {
		return fmt.Errorf("connect to own server: %w", err)
	}
	if n.sys, err = nats.Connect("", append(inProcess, nats.UserInfo("system", n.secret))...); err != nil {
		return fmt.Errorf("connect to own server as system: %w", err)
	}
	if n.js, err = jetstream.New(n.nc, jetstream.WithDefaultTimeout(callTimeout)); err != nil {
		return fmt.Errorf("use own JetStream: %w", err)
	}
	return nil
}

// setRoutes makes the server dial these members, and only these.
func (n *node) setRoutes(routes []string) error {
	opts := n.opts.Clone()
	var err error
	if opts.Routes, err = routeURLs(routes); err != nil {
		return err
	}
	if err := n.server.ReloadOptions(opts.Clone()); err != nil {
		return fmt.Errorf("change routes: %w", err)
	}
	n.opts = opts
	return nil
}

// failed says why the server cannot go on, or nil. JetStream disables itself when the disk is full or damaged while the process lives
// on, and a member that only looks alive is worse than one that is started again.
func (n *node) failed() error {
	switch {
	case !n.server.Running():
		return errors.New("NATS server stopped by itself; its log says why")
	case !n.server.JetStreamEnabled():
		return fmt.Errorf("store in %s failed; check the disk (full or damaged?) and start again", n.opts.StoreDir)
	}
	return nil
}

// stop closes the connections and the server, which flushes and closes the store.
func (n *node) stop() {
	for _, nc := range []*nats.Conn{n.nc, n.sys} {
		if nc != nil {
			nc.Close()
		}
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
}
