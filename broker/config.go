package broker

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// Config is the Booster's environment.
type Config struct {
	logging.Config
	Network
	Rollout

	Name         string        `envconfig:"BOOSTER_NAME" desc:"name on the bus; default generated once and kept in the data directory"`
	DataDir      string        `envconfig:"BOOSTER_DATA_DIR" default:"/var/lib/omflow-booster" desc:"where the queue is stored"`
	Sync         Sync          `envconfig:"BOOSTER_SYNC" default:"auto" desc:"flush to disk: always, an interval such as 500ms, or auto: every second, since the database holds the truth"`
	StoreMB      int64         `envconfig:"BOOSTER_STORE_MB" default:"0" desc:"most disk space of the queue in MB; 0: four fifths of what is free, 20000 at most"`
	WitnessAfter time.Duration `envconfig:"BOOSTER_WITNESS_AFTER" default:"1m" desc:"a witness whose host was silent this long is replaced by another agent's"`
	AuditEvery   time.Duration `envconfig:"BOOSTER_AUDIT_EVERY" default:"6h" desc:"two Boosters: how often every message of every copy is compared; counts are compared every few seconds"`
	Lease        time.Duration `envconfig:"BOOSTER_LEASE" default:"30s" desc:"a step comes again when its worker was silent this long"`
	ReadyAfter   time.Duration `envconfig:"BOOSTER_START_TIMEOUT" default:"15m" desc:"how long the start may take, recovery of the store included"`
}

// Network is where this Booster is, and where the other one is.
type Network struct {
	IP            string `envconfig:"BOOSTER_IP" desc:"own address or name that the OMFLOW Servers reach, and that the Booster listens on; unset: this machine only"`
	Listen        string `envconfig:"BOOSTER_LISTEN" desc:"IP address to listen on, if it is not BOOSTER_IP: behind a router, in a container; 0.0.0.0 or :: for all"`
	Port          int    `envconfig:"BOOSTER_PORT" default:"5169" desc:"port for workers, agents and commands"`
	HAIP          string `envconfig:"HA_BOOSTER_IP" desc:"address or name of the other Booster, if there are two"`
	HAPort        int    `envconfig:"HA_BOOSTER_PORT" default:"5169" desc:"its port"`
	ClusterPort   int    `envconfig:"BOOSTER_CLUSTER_PORT" default:"5170" desc:"own port for the other Booster"`
	HAClusterPort int    `envconfig:"HA_BOOSTER_CLUSTER_PORT" default:"5170" desc:"the other Booster's port for this one"`
}

// Rollout is how patches are rolled out that do not say otherwise.
type Rollout struct {
	Servers  int           `envconfig:"BOOSTER_ROLLOUT_SERVERS" default:"1" desc:"servers that may be without service at the same time for a patch"`
	Failures int           `envconfig:"BOOSTER_ROLLOUT_FAILURES" default:"0" desc:"servers on which a patch may fail before its rollout halts"`
	Window   string        `envconfig:"BOOSTER_ROLLOUT_WINDOW" desc:"time of day in which servers are patched, by this host's clock: 22:00-05:00; unset: always"`
	Approval bool          `envconfig:"BOOSTER_ROLLOUT_APPROVAL" default:"false" desc:"true: no server is patched before somebody says patch approve"`
	Timeout  time.Duration `envconfig:"BOOSTER_ROLLOUT_TIMEOUT" default:"10m" desc:"a server that is silent about a patch this long blocks the others no more, and catches up later"`
}

func (r Rollout) policy() rollout.Policy {
	return rollout.Policy{MaxUnavailable: r.Servers, MaxFailures: r.Failures, Window: r.Window, Approval: r.Approval}
}

func (r Rollout) validate() error {
	if err := config.Between("BOOSTER_ROLLOUT_SERVERS", r.Servers, 1, 10_000); err != nil {
		return err
	}
	if err := config.Between("BOOSTER_ROLLOUT_FAILURES", r.Failures, 0, 10_000); err != nil {
		return err
	}
	if err := r.policy().Validate(); err != nil {
		return &config.Error{Var: "BOOSTER_ROLLOUT_WINDOW", Problem: err.Error(), Fix: "correct it or unset it"}
	}
	return config.Positive("BOOSTER_ROLLOUT_TIMEOUT", r.Timeout)
}

// Validate checks what does not need anything outside the process.
func (c *Config) Validate() error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if err := config.Port("BOOSTER_PORT", c.Port); err != nil {
		return err
	}
	if err := c.validateCluster(); err != nil {
		return err
	}
	if err := config.Name("BOOSTER_NAME", c.Name); err != nil {
		return err
	}
	if strings.ContainsFunc(c.Name, unicode.IsSpace) { // the server would refuse it
		return &config.Error{Var: "BOOSTER_NAME", Problem: fmt.Sprintf("%q holds a blank", c.Name), Fix: "use a hyphen"}
	}
	if c.DataDir == "" {
		return &config.Error{Var: "BOOSTER_DATA_DIR", Problem: "empty", Fix: "name a directory that the Booster may write"}
	}
	if err := config.Path("BOOSTER_DATA_DIR", c.DataDir); err != nil {
		return err
	}
	if c.StoreMB != 0 && (c.StoreMB < minStoreMB || c.StoreMB > 1<<30) {
		return &config.Error{
			Var: "BOOSTER_STORE_MB", Problem: strconv.FormatInt(c.StoreMB, 10) + " is out of range",
			Fix: "use 256 to 1073741824, or 0",
		}
	}
	if err := c.validate(); err != nil {
		return err
	}
	if c.Lease < time.Second {
		return &config.Error{Var: "BOOSTER_LEASE", Problem: c.Lease.String() + " is too short", Fix: "use 1s or more"}
	}
	return config.Positive("BOOSTER_START_TIMEOUT", c.ReadyAfter)
}

func (c *Config) validateCluster() error {
	var err error
	if c.IP, err = config.Host("BOOSTER_IP", c.IP); err != nil {
		return err
	}
	if c.HAIP, err = config.Host("HA_BOOSTER_IP", c.HAIP); err != nil {
		return err
	}
	if c.Listen, err = config.Address("BOOSTER_LISTEN", c.Listen); err != nil {
		return err
	}
	if c.Listen != "" && c.IP == "" {
		return &config.Error{
			Var: "BOOSTER_IP", Problem: "not set",
			Fix: "with BOOSTER_LISTEN, others must know by which address they reach this Booster",
		}
	}
	if c.HAIP == "" {
		return nil
	}
	if c.IP == "" {
		return &config.Error{Var: "BOOSTER_IP", Problem: "not set", Fix: "with HA_BOOSTER_IP, the other Booster must know how to reach this one"}
	}
	for name, port := range map[string]int{
		"HA_BOOSTER_PORT": c.HAPort, "BOOSTER_CLUSTER_PORT": c.ClusterPort, "HA_BOOSTER_CLUSTER_PORT": c.HAClusterPort,
	} {
		if err := config.Port(name, port); err != nil {
			return err
		}
	}
	if c.IP == c.HAIP && (c.Port == c.HAPort || c.ClusterPort == c.HAClusterPort) {
		return &config.Error{Var: "HA_BOOSTER_IP", Problem: c.HAIP + " is this Booster itself", Fix: "name the other one"}
	}
	if c.ClusterPort == c.Port {
		return &config.Error{Var: "BOOSTER_CLUSTER_PORT", Problem: "the same as BOOSTER_PORT", Fix: "use another port"}
	}
	if err := config.Positive("BOOSTER_AUDIT_EVERY", c.AuditEvery); err != nil {
		return err
	}
	return config.Positive("BOOSTER_WITNESS_AFTER", c.WitnessAfter)
}

// mode is how the store is written: alone, or as a member of a cluster.
func (n Network) mode() string {
	if n.HAIP == "" {
		return modeStandalone
	}
	return modeCluster
}

// sync is BOOSTER_SYNC with auto resolved. Members of a cluster flush always: Raft groups their commits, and a majority that
// loses power together must not forget what it has acknowledged.
func (c *Config) sync() Sync {
	switch {
	case !c.Sync.Auto:
		return c.Sync
	case c.mode() == modeCluster:
		return Sync{Always: true}
	default:
		return Sync{Interval: singleSync}
	}
}

// port is a port that must be free, and the variable that it comes from.
type port struct {
	variable string
	port     int
}

func (n Network) ports() []port {
	ports := []port{{"BOOSTER_PORT", n.Port}}
	if n.mode() == modeCluster {
		ports = append(ports, port{"BOOSTER_CLUSTER_PORT", n.ClusterPort})
	}
	return ports
}

// place is where the server listens.
func (n Network) place() place { return place{"BOOSTER_IP", n.IP, "BOOSTER_LISTEN", n.Listen} }

// address is how others reach this Booster.
func (n Network) address() string {
	host := n.IP
	if host == "" {
		host = "127.0.0.1"
	}
	return hostPort(host, n.Port)
}

// ownMember and otherMember are how the members of the cluster reach this Booster and the other one.
func (n Network) ownMember() string   { return hostPort(n.IP, n.ClusterPort) }
func (n Network) otherMember() string { return hostPort(n.HAIP, n.HAClusterPort) }

// routes are the members that this Booster dials: the other Booster and, if one is known, the witness. The Boosters dial the witness, never
// the other way round, because its host has one port open to them.
func (n Network) routes(witness string) []string {
	routes := []string{n.otherMember()}
	if witness != "" {
		routes = append(routes, witness)
	}
	return routes
}

// Sync is how often the store is flushed to disk.
type Sync struct {
	Auto     bool // decided by the mode
	Always   bool
	Interval time.Duration // between flushes when not always
}

// singleSync is auto for a single Booster: the row in SQL is the truth and is published again, so a flush for each publish and
// each ack would cost most of the throughput and buy nothing. See docs/ARCHITECTURE.md, Guarantees.
const singleSync = time.Second

// Decode reads always, auto or an interval; for envconfig.
func (s *Sync) Decode(value string) error {
	switch value {
	case "auto":
		*s = Sync{Auto: true}
		return nil
	case "always":
		*s = Sync{Always: true}
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 10*time.Millisecond || d > 10*time.Minute {
		return &config.Error{
			Var: "BOOSTER_SYNC", Problem: strconv.Quote(value) + " is not known",
			Fix: "use auto, always, or an interval from 10ms to 10m",
		}
	}
	*s = Sync{Interval: d}
	return nil
}

func (s Sync) String() string {
	switch {
	case s.Auto:
		return "auto"
	case s.Always:
		return "always"
	}
	return s.Interval.String()
}
