package broker

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

func candidate(name, witness, address string) bus.Node {
	state := &bus.AgentState{AgentWitness: bus.AgentWitness{Witness: witness, WitnessAddress: address}}
	return bus.Node{Role: bus.ServiceAgent, Name: name, Started: time.Now(), Agent: state}
}

// appointing is the appointer of a Booster that runs, with other addresses.
func appointing(b *Broker, ip, haIP string) *appointer {
	cfg := b.cfg
	cfg.IP, cfg.HAIP, cfg.WitnessAfter = ip, haIP, time.Minute
	c := b.now.Load().cluster
	return newAppointer(c, b.store, cfg, b.limit, newPlacement(c, cfg.Network))
}

// A witness beside a Booster dies with it. Which hosts have a Booster must be known without heartbeats, which are not there at
// the first start, and whatever an address is written like.
func TestWitnessIsNeverAppointedOnABoostersHost(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b, _ := started(t, cfg)
	chosen := func(ip, haIP string, nodes ...bus.Node) string {
		b := appointing(b, ip, haIP)
		b.chooseAgent(nodes, nil)
		b.hosts.names.resolve(t.Context()) // as the controller does between two looks
		if n := b.chooseAgent(nodes, nil); n != nil {
			return n.Name
		}
		return ""
	}
	other := bus.Node{
		Role: bus.ServiceBooster, Name: "b2",
		Booster: &bus.BoosterState{Address: "203.0.113.2:5169", Hosts: []string{"203.0.113.2", "198.51.100.2"}},
	}
	third := candidate("om3", "auto", "203.0.113.3:5169")

	require.Empty(t, chosen("203.0.113.1", "203.0.113.2", candidate("om1", "auto", "203.0.113.1:5169")),
		"first start, no heartbeat of a Booster")
	require.Empty(t, chosen("203.0.113.1", "203.0.113.2", candidate("om2", "auto", "203.0.113.2:5169")),
		"the other Booster's host, no heartbeat")
	require.Empty(t, chosen("203.0.113.1", "203.0.113.2", other, candidate("om2", "auto", "198.51.100.2:5169")), "another address of its host")
	require.Equal(t, "om3", chosen("203.0.113.1", "203.0.113.2", other, candidate("om1", "auto", "203.0.113.1:5169"), third))

	require.Empty(t, chosen("localhost", "203.0.113.2", candidate("om1", "auto", "127.0.0.1:5169")), "BOOSTER_IP is a name")
	require.Empty(t, chosen("203.0.113.1", "localhost", candidate("om1", "auto", "127.0.0.1:5169")), "HA_BOOSTER_IP is one")
	if name, err := os.Hostname(); err == nil {
		for _, ip := range ownHosts() {
			require.Empty(t, chosen(name, "203.0.113.2", candidate("om1", "auto", net.JoinHostPort(ip, "5169"))), "%s is an address of this host",
				ip)
			require.Empty(t, chosen("203.0.113.1", "203.0.113.2", candidate("om1", "auto", net.JoinHostPort(ip, "5169"))),
				"%s is one, whatever BOOSTER_IP says", ip)
		}
	}

	require.Equal(t, "om3", chosen("203.0.113.1", "203.0.113.2", candidate("om1", "on", "203.0.113.1:5169"), third),
		"told to, and there is a better one")
	require.Equal(t, "om1", chosen("203.0.113.1", "203.0.113.2", candidate("om1", "on", "203.0.113.1:5169")),
		"told to, and there is no other: status says so")
	require.Equal(t, "om4", chosen("203.0.113.1", "203.0.113.2", third, candidate("om4", "on", "203.0.113.4:5169")),
		"one that was told to comes first")
	require.Empty(t, chosen("203.0.113.1", "203.0.113.2", candidate("om1", "on", "127.0.0.1:5169")), "where the other Booster cannot reach it")

	small := third
	small.Agent = &bus.AgentState{AgentWitness: bus.AgentWitness{Witness: "auto", WitnessAddress: "203.0.113.5:5169", WitnessFree: 100 * mib}}
	require.Equal(t, "om3", chosen("203.0.113.1", "203.0.113.2", small, third), "no room for the queue")
}

// The controller decides, and a step-down waits for it.
func TestNameServerThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	running, _ := started(t, cfg)
	b := appointing(running, "203.0.113.1", "203.0.113.2")
	b.hosts.names.lookUp = func(ctx context.Context, _ string) ([]net.IPAddr, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	nodes := []bus.Node{candidate("om1", "auto", "om1.example.com:5169")}
	chosen := make(chan *bus.Node)
	go func() { chosen <- b.chooseAgent(nodes, nil) }()
	select {
	case <-chosen:
	case <-time.After(timeout / 4):
		t.Fatal("it waits for the name server")
	}
	require.True(t, b.hosts.names.missing(), "nobody is appointed before the name was looked up")
	b.hosts.names.resolve(t.Context())
	require.False(t, b.hosts.names.missing())
	require.NotNil(t, b.chooseAgent(nodes, nil), "what is known is better than no witness")

	b.hosts.names.known["om1.example.com"].looked = time.Time{}
	b.hosts.names.lookUp = func(context.Context, string) ([]net.IPAddr, error) {
		return []net.IPAddr{{IP: net.ParseIP("203.0.113.2")}}, nil
	}
	b.hosts.names.resolve(t.Context())
	require.Nil(t, b.chooseAgent(nodes, nil), "it is the other Booster's host")
	require.NotEmpty(t, b.hosts.unfit)
}

func TestPlacementThatCannotHelpIsSaid(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b, _ := started(t, cfg)
	judged := func(haIP, witness string, unfit ...string) []string {
		p := newPlacement(b.now.Load().cluster, Network{IP: "203.0.113.1", HAIP: haIP})
		p.unfit = unfit
		v := &view{}
		if witness != "" {
			v.grant = &bus.WitnessGrant{Agent: "om1", Address: witness}
		}
		p.judge(v, nil)
		p.names.resolve(t.Context())
		return p.judge(v, nil)
	}
	require.Empty(t, judged("203.0.113.2", "203.0.113.3:5169"))
	require.Contains(t, judged("203.0.113.2", "203.0.113.2:5169")[0], "the witness (agent om1) runs on the host of Booster 203.0.113.2")
	require.Contains(t, judged("localhost", "203.0.113.3:5169")[0], "both Boosters run on one host")
	require.Equal(t, []string{"no agent can be the witness: om1 runs on the host of Booster b2"},
		judged("203.0.113.2", "", "om1 runs on the host of Booster b2"))
}
