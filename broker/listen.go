package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/preflight"
)

const (
	lookupTimeout  = 10 * time.Second
	addressTimeout = time.Minute // for an interface to get its address when the host boots
	addressRetry   = 100 * time.Millisecond
)

// listener finds the address that a member listens on, for all of its life.
type listener struct {
	resolve func(ctx context.Context) (string, error)
	dataDir string
	log     zerolog.Logger
	address string // once it is found
}

func newListener(p place, dataDir string, log zerolog.Logger) *listener {
	return &listener{resolve: p.resolve, dataDir: dataDir, log: log}
}

// await waits a while for the address of a member that has run here before: its host may just boot. On a new data directory the setting is
// wrong.
func (l *listener) await(ctx context.Context) (string, error) {
	_, err := os.Stat(filepath.Join(l.dataDir, bootStateName))
	fresh, began, said := err != nil, time.Now(), false
	for {
		host, err := l.host(ctx)
		if fresh || !errors.As(err, new(elsewhereError)) || time.Since(began) > addressTimeout {
			return host, err
		}
		if !said {
			said = true
			l.log.Warn().Err(err).Dur("at_most", addressTimeout).Msg("waiting for the address of this host: this member has run here before")
		}
		if !bus.Sleep(ctx, addressRetry) {
			return host, err
		}
	}
}

// host is that address.
func (l *listener) host(ctx context.Context) (string, error) {
	if l.address != "" {
		return l.address, nil
	}
	address, err := l.resolve(ctx)
	if err == nil { // an address that this host does not have yet is asked for again
		l.address = address
	}
	return address, err
}

// place is where a service listens, as its operator has said it: at the address by which others reach it, or, where a router or
// a container host passes connections on, at another one.
type place struct {
	variable string // that names host
	host     string // address or name by which others reach the service; empty: nobody but this machine does
	override string // variable that names listen
	listen   string // IP address; empty: that of host
}

// resolve returns the one IP address to listen on. It never widens what was asked for, because a mistyped address must not open
// the queue to everybody. What cannot work is a *config.Error.
func (p place) resolve(ctx context.Context) (string, error) {
	if p.listen != "" {
		return p.listen, p.here(ctx, p.override, p.listen)
	}
	if p.host == "" {
		return "127.0.0.1", nil
	}
	if _, err := netip.ParseAddr(p.host); err == nil {
		return p.host, p.here(ctx, p.variable, p.host)
	}
	return p.lookUp(ctx)
}

func (p place) here(ctx context.Context, variable, address string) error {
	if preflight.Here(ctx, address) {
		return nil
	}
	return p.elsewhere(variable, address)
}

func (p place) elsewhere(variable, address string) error {
	fix := "give one of those"
	if variable == p.variable {
		fix += "; or, if a router or a container host passes connections on, set " + p.override + " to the address to listen on (0.0.0.0: all)"
	}
	return elsewhereError{&config.Error{
		Var: variable, Problem: address + " is no address of this host, which has " + strings.Join(ownAddresses(), ", "), Fix: fix,
	}}
}

// elsewhereError is the address of another host, or of an interface that has none yet.
type elsewhereError struct{ wrong *config.Error }

func (e elsewhereError) Error() string { return e.wrong.Error() }
func (e elsewhereError) Unwrap() error { return e.wrong }

// lookUp finds the address of this host that a name stands for. A name server that does not answer is no wrong setting: the
// service manager tries again.
func (p place) lookUp(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "", &config.Error{
			Var: p.variable, Problem: fmt.Sprintf("nobody knows the host %q", p.host),
			Fix: "correct it, or give an IP address",
		}
	case err != nil:
		return "", fmt.Errorf("look up %s=%s: %w", p.variable, p.host, err)
	}
	slices.SortFunc(found, func(a, b netip.Addr) int { return a.Unmap().Compare(b.Unmap()) }) // IPv4 first
	var own, loopback []string
	for _, addr := range found {
		addr = addr.Unmap()
		switch {
		case !preflight.Here(ctx, addr.String()):
		case addr.IsLoopback():
			loopback = append(loopback, addr.String())
		default:
			own = append(own, addr.String())
		}
	}
	switch {
	case len(own) > 0:
		return own[0], nil
	case len(loopback) > 0 && strings.Contains(p.host, "localhost"):
		return loopback[0], nil
	case len(loopback) > 0: // as Debian's /etc/hosts has it for the name of the host
		return "", &config.Error{
			Var: p.variable, Problem: fmt.Sprintf("%s is %s here, where no other host comes in", p.host, loopback[0]),
			Fix: "give an IP address of this host, correct /etc/hosts, or set " + p.override + " to the address to listen on",
		}
	}
	return "", p.elsewhere(p.variable, p.host)
}

// ownAddresses are those of this host that others could use, for a message.
func ownAddresses() []string {
	var own []string
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			own = append(own, n.IP.String())
		}
	}
	return own
}
