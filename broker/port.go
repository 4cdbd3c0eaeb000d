package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// checkPort makes sure that the server can listen, because the server itself would only log it. It names who has the port.
func checkPort(ctx context.Context, variable, host string, port int) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		return l.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return &config.Error{
			Var: variable, Problem: fmt.Sprintf("port %d is taken%s", port, portHolder(ctx, port)),
			Fix: "stop that program or choose another port",
		}
	}
	return &config.Error{Var: variable, Problem: fmt.Sprintf("cannot listen on port %d: %s", port, err), Fix: "choose another port"}
}

// portHolder names the process that listens on a port, or nothing when the system does not tell this user.
func portHolder(ctx context.Context, port int) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conns, err := psnet.ConnectionsWithContext(ctx, "tcp")
	if err != nil {
		return ""
	}
	for _, c := range conns {
		if c.Status != "LISTEN" || c.Laddr.Port != uint32(port) || c.Pid == 0 {
			continue
		}
		if p, err := process.NewProcessWithContext(ctx, c.Pid); err == nil {
			if name, err := p.NameWithContext(ctx); err == nil {
				return fmt.Sprintf(" by %s (process %d)", name, c.Pid)
			}
		}
		return fmt.Sprintf(" by process %d", c.Pid)
	}
	return ""
}
