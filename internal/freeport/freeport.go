// Package freeport chooses TCP ports of 127.0.0.1 for servers that start later, stop and start again on the same port.
//
// Listening on port 0 chooses one of the ports that the system also gives to clients: while its server is away, any outgoing
// connection may take it. These here lie below.
package freeport

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

const low, count = 12000, 20000 // below 32768, where Linux begins with clients

var last atomic.Int32

// Take is a port that nobody listens on now. A process never gets one twice, and processes at the same time start in different places.
func Take(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	for range count {
		port := low + (os.Getpid()*37+int(last.Add(1)))%count
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return 0, errors.New("no free TCP port between 12000 and 31999")
}
