package broker

import (
	"fmt"
	"net"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// A witness that dies together with a Booster is worth nothing: two of three votes are gone then. So it is not enough that addresses are
// written differently: names are resolved, and every address of a Booster's host counts.

// placement knows on which hosts the members run.
type placement struct {
	cluster *cluster
	network Network
	names   names
	unfit   []string // agents that cannot be the witness, and why; the appointer notes them
}

func newPlacement(c *cluster, network Network) *placement {
	return &placement{cluster: c, network: network}
}

// hosts are the addresses of hosts with a Booster, and whose they are.
type hosts struct {
	names    *names
	boosters map[string]string
}

// boosterHosts gathers what is known: of this host, of the settings, of the connection to the other Booster, and of the heartbeats.
func (p *placement) boosterHosts(nodes []bus.Node) hosts {
	h := hosts{&p.names, map[string]string{}}
	own, _ := net.InterfaceAddrs() // without them the settings still tell
	for _, a := range own {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil {
			h.boosters[ip.String()] = p.cluster.name
		}
	}
	h.add(p.network.IP, p.cluster.name)
	other := p.network.HAIP
	if routes, err := p.cluster.node.server.Routez(&server.RoutezOptions{}); err == nil {
		for _, r := range routes.Routes {
			if !isWitness(r.RemoteName) {
				other = r.RemoteName
				h.add(r.IP, other)
			}
		}
	}
	h.add(p.network.HAIP, other)
	for _, n := range nodes {
		if n.Booster == nil {
			continue
		}
		host, _, _ := net.SplitHostPort(n.Booster.Address)
		for _, address := range append(n.Booster.Hosts, host) {
			h.add(address, n.Name)
		}
	}
	return h
}

func (h hosts) add(host, booster string) {
	for _, ip := range h.names.of(host) {
		if h.boosters[ip] == "" {
			h.boosters[ip] = booster
		}
	}
}

// booster is the one on the host of an address host:port, or empty.
func (h hosts) booster(address string) string {
	host, _, _ := net.SplitHostPort(address)
	for _, ip := range h.names.of(host) {
		if h.boosters[ip] != "" {
			return h.boosters[ip]
		}
	}
	return ""
}

// ownHosts are the addresses of this host that others may see it under, for the heartbeat.
func ownHosts() (list []string) {
	own, _ := net.InterfaceAddrs()
	for _, a := range own {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			list = append(list, ip.String())
		}
	}
	return list
}

// judge says what is wrong with where the members are.
func (p *placement) judge(v *view, nodes []bus.Node) (notes []string) {
	h := p.boosterHosts(nodes)
	for _, ip := range h.names.of(p.network.HAIP) {
		if h.boosters[ip] == p.cluster.name {
			notes = append(notes, "both Boosters run on one host: when it dies, nobody takes over; run the other one on a host of its own")
			break
		}
	}
	if v.grant != nil {
		if booster := h.booster(v.grant.Address); booster != "" {
			notes = append(notes, fmt.Sprintf("the witness (agent %s) runs on the host of Booster %s: when that host dies, two of three votes "+
				"are gone and nobody takes over; "+
				"start an agent on a third host, and set AGENT_WITNESS=off for this one", v.grant.Agent, booster))
		}
	} else if len(p.unfit) > 0 {
		notes = append(notes, "no agent can be the witness: "+strings.Join(p.unfit, "; "))
	}
	return notes
}
