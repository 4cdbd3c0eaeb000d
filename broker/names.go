package broker

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	resolveTimeout = 2 * time.Second  // for all names together
	resolvedFor    = 10 * time.Second // a name that is asked for is looked up again after this
)

// names are the addresses of hosts, as a name server said last. The controller asks for them while it decides, and looks
// them up between two decisions: a name server that does not answer holds up no step-down and no stop.
type names struct {
	lookUp func(ctx context.Context, host string) ([]net.IPAddr, error) // nil: that of the system

	mu    sync.Mutex
	known map[string]*resolved
}

type resolved struct {
	ips    []string
	looked time.Time // zero: not yet
	asked  bool      // since it was looked up
}

// of returns the addresses of a host as text that can be compared; none when nobody knows it, or it was not looked up yet.
func (n *names) of(host string) []string {
	host = strings.Trim(host, "[]")
	if host == "" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil {
		return []string{ip.String()}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.known[host]
	if r == nil {
		r = &resolved{}
		if n.known == nil {
			n.known = map[string]*resolved{}
		}
		n.known[host] = r
	}
	r.asked = true
	return r.ips
}

// missing tells whether a name was asked for that was not looked up yet: what follows from the answers so far may be wrong.
func (n *names) missing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.known {
		if r.looked.IsZero() {
			return true
		}
	}
	return false
}

// resolve looks up what was asked for since, and forgets what nobody asks for. A name that is not answered in time keeps its addresses.
func (n *names) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, host := range n.due() {
		all.Go(func() { n.look(ctx, host) })
	}
	all.Wait()
}

func (n *names) due() (hosts []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for host, r := range n.known {
		switch {
		case r.asked && time.Since(r.looked) >= resolvedFor:
			hosts = append(hosts, host)
		case time.Since(r.looked) > 2*gatherEvery:
			delete(n.known, host)
		}
	}
	return hosts
}

func (n *names) look(ctx context.Context, host string) {
	lookUp := n.lookUp
	if lookUp == nil {
		lookUp = net.DefaultResolver.LookupIPAddr
	}
	found, err := lookUp(ctx, host)
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.known[host]
	if r == nil {
		return
	}
	r.looked, r.asked = time.Now(), false
	if ctx.Err() != nil && err != nil {
		return
	}
	r.ips = nil
	for _, ip := range found {
		r.ips = append(r.ips, ip.IP.String())
	}
}
