package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// ClientConfig tells a client where the Boosters are: Active first, then Standby.
type ClientConfig struct {
	IP         string `envconfig:"BOOSTER_IP" default:"127.0.0.1" desc:"address of the (active) Booster"`
	Port       int    `envconfig:"BOOSTER_PORT" default:"5169" desc:"its port"`
	SecondIP   string `envconfig:"SECOND_BOOSTER_IP" desc:"address of the second (standby) Booster, if there is one"`
	SecondPort int    `envconfig:"SECOND_BOOSTER_PORT" default:"5169" desc:"its port"`
	URL        string `envconfig:"BOOSTER_URL" desc:"NATS URLs of a cluster of one's own, instead of the Boosters above"`
	JoinFile   string `envconfig:"BOOSTER_JOIN_FILE" desc:"the join file of this host (omflow-booster join): keys that may sign patches"`
}

// Validate checks every address, and brings those of hosts into their plain form.
func (c *ClientConfig) Validate() error {
	if c.URL != "" {
		for part := range strings.SplitSeq(c.URL, ",") {
			u, err := url.Parse(strings.TrimSpace(part))
			if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
				return &config.Error{
					Var: "BOOSTER_URL", Problem: "a part of it is not the URL of a NATS server",
					Fix: "use for example nats://10.0.0.5:4222,nats://10.0.0.6:4222",
				}
			}
		}
	}
	var err error
	if c.IP, err = config.Host("BOOSTER_IP", c.IP); err != nil {
		return err
	}
	if c.SecondIP, err = config.Host("SECOND_BOOSTER_IP", c.SecondIP); err != nil {
		return err
	}
	if err := config.Path("BOOSTER_JOIN_FILE", c.JoinFile); err != nil {
		return err
	}
	if err := config.Port("BOOSTER_PORT", c.Port); err != nil {
		return err
	}
	return config.Port("SECOND_BOOSTER_PORT", c.SecondPort)
}

// URLs lists the servers in the order in which they are tried, separated by commas.
func (c ClientConfig) URLs() string {
	if c.URL != "" {
		return c.URL
	}
	urls := []string{natsURL(c.IP, c.Port)}
	if c.SecondIP != "" {
		urls = append(urls, natsURL(c.SecondIP, c.SecondPort))
	}
	return strings.Join(urls, ",")
}

// Shown is URLs as people may see it: without passwords.
func (c ClientConfig) Shown() string {
	parts := strings.Split(c.URLs(), ",")
	for i, part := range parts {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil {
			parts[i] = "…" // may hold a password
			continue
		}
		parts[i] = u.Redacted()
	}
	return strings.Join(parts, ",")
}

func natsURL(host string, port int) string {
	u := url.URL{Scheme: "nats", Host: net.JoinHostPort(host, strconv.Itoa(port))} // not put together by hand: an IPv6 zone has to be escaped
	return u.String()
}

// ErrNoBooster is returned when no Booster answers.
var ErrNoBooster = errors.New("no Booster answers")

// ErrAway is returned by Away.
var ErrAway = errors.New("no connection to a Booster")

// Away fails with ErrAway while a connection is lost. A caller asks first, so that it sends nothing in vain: the client
// library, which we let buffer nothing, would say that an outbound buffer has reached its limit.
func Away(nc *nats.Conn) error {
	if nc.IsConnected() {
		return nil
	}
	return ErrAway
}

// How a client notices a dead Booster and comes back: figures from measurements of takeovers.
const (
	pingInterval    = 2 * time.Second // a frozen Booster is left after some six seconds
	pingsMissed     = 2
	reconnectWait   = 250 * time.Millisecond
	connectTimeout  = 3 * time.Second
	asyncMaxPending = 4096 // publishes under way in one connection
)

// Client is a connection to the bus.
type Client struct {
	NC *nats.Conn
	JS jetstream.JetStream
}

// Close ends the connection; what was published is flushed first.
func (c *Client) Close() {
	_ = c.NC.FlushTimeout(time.Second)
	c.NC.Close()
}

// Dial connects once and fails with ErrNoBooster if nobody answers: for commands that a person waits for.
func Dial(c ClientConfig, name string) (*Client, error) {
	return connect(c, name, nats.MaxReconnects(3))
}

// Connect returns a connection that goes on trying for ever, first connection included: for services.
// Use Client.NC.IsConnected to see whether a Booster is there.
func Connect(c ClientConfig, name string, log zerolog.Logger) (*Client, error) {
	return connect(c, name,
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // never pretend that something was sent
		nats.ConnectHandler(func(nc *nats.Conn) {
			log.Info().Str("server", nc.ConnectedServerName()).Str("url", nc.ConnectedUrlRedacted()).Msg("connected to Booster")
		}),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() || err == nil {
				return // our own doing
			}
			log.Warn().Err(err).Str("servers", c.Shown()).Msg("no connection to a Booster; trying again")
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info().Str("server", nc.ConnectedServerName()).Str("url", nc.ConnectedUrlRedacted()).Msg("connected to Booster again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			e := log.Warn().Err(err)
			if sub != nil {
				e = e.Str("subject", sub.Subject)
			}
			e.Msg("bus reported an error")
		}),
	)
}

func connect(c ClientConfig, name string, opts ...nats.Option) (*Client, error) {
	opts = append([]nats.Option{
		nats.Name(name),
		nats.DontRandomize(),           // Active first, then Standby
		nats.IgnoreDiscoveredServers(), // and no other: members of a cluster name addresses that may not be reachable from here
		nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsMissed),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
	}, opts...)
	nc, err := nats.Connect(c.URLs(), opts...)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w; is `omflow-booster broker` running there, and BOOSTER_IP and BOOSTER_PORT right?",
			ErrNoBooster, c.Shown(), err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(asyncMaxPending), jetstream.WithPublishAsyncTimeout(5*time.Second))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream at %s: %w", c.Shown(), err)
	}
	return &Client{NC: nc, JS: js}, nil
}

// WaitReady blocks until the Booster has its streams and buckets, or ctx ends.
func (c *Client) WaitReady(ctx context.Context) error {
	for {
		_, err := c.JS.KeyValue(ctx, BucketControl) // created last, see Ensure
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w with its streams ready: %w", ErrNoBooster, err)
		case <-time.After(reconnectWait):
		}
	}
}
