package broker

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// A witness that dies together with a Booster is worth nothing: two of three votes are gone then. So it is not enough that addresses are
// written differently: names are resolved, and every address of a Booster's host counts.

const resolvePatience = 2 * time.Second // for all names together: the controller has other work

// hosts are the addresses of hosts with a Booster, and whose they are.
type hosts map[string]string

// boosterHosts gathers what is known: of this host, of the settings, of the connection to the other Booster, and of the heartbeats.
func (b *Broker) boosterHosts(ctx context.Context, nodes []bus.Node) hosts {
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	h := hosts{}
	own, _ := net.InterfaceAddrs() // without them the settings still tell
	for _, a := range own {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil {
			h[ip.String()] = b.name()
		}
	}
	h.add(ctx, b.cfg.IP, b.name())
	other := b.cfg.HAIP
	if routes, err := b.server.Routez(&server.RoutezOptions{}); err == nil {
		for _, r := range routes.Routes {
			if !isWitness(r.RemoteName) {
				other = r.RemoteName
				h.add(ctx, r.IP, other)
			}
		}
	}
	h.add(ctx, b.cfg.HAIP, other)
	for _, n := range nodes {
		if n.Booster == nil {
			continue
		}
		host, _, _ := net.SplitHostPort(n.Booster.Address)
		for _, address := range append(n.Booster.Hosts, host) {
			h.add(ctx, address, n.Name)
		}
	}
	return h
}

func (h hosts) add(ctx context.Context, host, booster string) {
	for _, ip := range resolve(ctx, host) {
		if h[ip] == "" {
			h[ip] = booster
		}
	}
}

// of is the Booster on the host of an address host:port, or empty.
func (h hosts) of(ctx context.Context, address string) string {
	host, _, _ := net.SplitHostPort(address)
	for _, ip := range resolve(ctx, host) {
		if h[ip] != "" {
			return h[ip]
		}
	}
	return ""
}

// resolve returns the addresses of a host as text that can be compared; none when nobody knows it.
func resolve(ctx context.Context, host string) (ips []string) {
	host = strings.Trim(host, "[]")
	if host == "" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil {
		return []string{ip.String()}
	}
	found, _ := net.DefaultResolver.LookupIPAddr(ctx, host)
	for _, ip := range found {
		ips = append(ips, ip.IP.String())
	}
	return ips
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

// judgePlacement says what is wrong with where the members are.
func (b *Broker) judgePlacement(ctx context.Context, v *view, nodes []bus.Node) (notes []string) {
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	h := b.boosterHosts(ctx, nodes)
	for _, ip := range resolve(ctx, b.cfg.HAIP) {
		if h[ip] == b.name() {
			notes = append(notes, "both Boosters run on one host: when it dies, nobody takes over; run the other one on a host of its own")
			break
		}
	}
	if v.grant != nil {
		if booster := h.of(ctx, v.grant.Address); booster != "" {
			notes = append(notes, fmt.Sprintf("the witness (agent %s) runs on the host of Booster %s: when that host dies, two of three votes are gone and nobody takes over; "+
				"start an agent on a third host, and set AGENT_WITNESS=off for this one", v.grant.Agent, booster))
		}
	} else if len(b.unfit) > 0 {
		notes = append(notes, "no agent can be the witness: "+strings.Join(b.unfit, "; "))
	}
	return notes
}
