//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is hosts, each a network namespace of its own, on a router in another one. The router drops what a scenario wants dropped, each
// direction for itself, without a word to anybody, as a firewall or a broken switch does. The tests have an interface of their own on the
// router and reach every host, whatever is cut between the hosts.
//
// Needs root and iproute2. Namespaces have the process id of the tests in their names: what a killed run has left is removed by the next.
type network struct {
	t      testing.TB
	prefix string            // of everything that the kernel has a name for
	net    int               // 198.18.<net>.0/24, a range for tests (RFC 2544)
	place  map[string]int    // of a host on the router, from 1; the tests themselves have 0
	cuts   map[[2]string]int // from, to → priority of the router's rule
}

const (
	netnsVar     = "TEST_NETNS" // in env: the network namespace in which a process runs
	netnsName    = "ombt"       // ombt<process id>x<number><r: router, or place of a host>
	netnsTries   = 50           // to find a range that nobody else uses
	maxHosts     = 60
	firstCutRule = 100 // after the router's own addresses, before its routes
)

var lastNetwork atomic.Int32

// newNetwork makes hosts of these names, or skips the test, loudly, where that is not possible.
func newNetwork(t testing.TB, hosts ...string) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("PARTITIONS ARE NOT TESTED: network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("PARTITIONS ARE NOT TESTED: there is no program ip (package iproute2)")
	}
	removeLeftNetworks()
	n := &network{
		t: t, place: map[string]int{}, cuts: map[[2]string]int{},
		prefix: fmt.Sprintf("%s%dx%d", netnsName, os.Getpid(), lastNetwork.Add(1)),
	}
	if err := ip("netns", "add", n.router()); err != nil {
		t.Skipf("PARTITIONS ARE NOT TESTED: this system makes no network namespaces: %s", err)
	}
	t.Cleanup(n.remove)
	// Forward; and take a packet even where its answer would be dropped, because that is the point.
	err := ip("netns", "exec", n.router(), "sh", "-c",
		"for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done; echo 1 >/proc/sys/net/ipv4/ip_forward")
	if err != nil { // in a chroot, or a container that may not mount
		t.Skipf("PARTITIONS ARE NOT TESTED: this system runs nothing in a network namespace: %s", err)
	}
	n.joinTests()
	for _, host := range hosts {
		n.join(host)
	}
	return n
}

func (n *network) router() string { return n.prefix + "r" }

// in is the environment of a process on a host.
func (n *network) in(host string) env { return env{netnsVar: n.namespace(host)} }

func (n *network) namespace(host string) string { return n.prefix + "h" + strconv.Itoa(n.at(host)) }

// ip is the address of a host.
func (n *network) ip(host string) string { return n.address(n.at(host), 2) }

func (n *network) at(host string) int {
	n.t.Helper()
	place, known := n.place[host]
	if !known {
		n.t.Fatalf("there is no host %q", host)
	}
	return place
}

// address is that of the router (1) or the host (2) on the link between them.
func (n *network) address(place, end int) string {
	return fmt.Sprintf("198.18.%d.%d", n.net, 4*place+end)
}

// joinTests connects this process to the router, on a range that is free.
func (n *network) joinTests() {
	n.t.Helper()
	link := n.link(0)
	n.must("link", "add", link, "type", "veth", "peer", "name", link+"r", "netns", n.router())
	n.must("link", "set", link, "up")
	var err error
	for range netnsTries {
		n.net = rand.IntN(256)
		if err = ip("addr", "add", n.address(0, 2)+"/30", "dev", link); err != nil {
			continue
		}
		if err = ip("route", "add", fmt.Sprintf("198.18.%d.0/24", n.net), "via", n.address(0, 1)); err == nil {
			n.attach(0)
			return
		}
		n.must("addr", "del", n.address(0, 2)+"/30", "dev", link)
	}
	n.t.Fatalf("no free range of addresses: %s", err)
}

// join connects a new host to the router.
func (n *network) join(host string) {
	n.t.Helper()
	place := len(n.place) + 1
	if place > maxHosts {
		n.t.Fatalf("%d hosts are too many", place)
	}
	n.place[host] = place
	ns, link := n.namespace(host), n.link(place)
	n.must("netns", "add", ns)
	n.must("link", "add", link, "netns", ns, "type", "veth", "peer", "name", link+"r", "netns", n.router())
	n.must("-n", ns, "link", "set", "lo", "up")
	n.must("-n", ns, "addr", "add", n.address(place, 2)+"/30", "dev", link)
	n.must("-n", ns, "link", "set", link, "up")
	n.attach(place)
	n.must("-n", ns, "route", "add", "default", "via", n.address(place, 1))
}

func (n *network) link(place int) string { return n.prefix + "l" + strconv.Itoa(place) }

// attach is the router's end of a link.
func (n *network) attach(place int) {
	n.t.Helper()
	link := n.link(place) + "r"
	n.must("-n", n.router(), "addr", "add", n.address(place, 1)+"/30", "dev", link)
	n.must("netns", "exec", n.router(), "sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/"+link+"/rp_filter")
	n.must("-n", n.router(), "link", "set", link, "up")
}

// drop loses every packet from one host to another. The way back is another matter.
func (n *network) drop(from, to string) {
	n.t.Helper()
	way := [2]string{from, to}
	if _, known := n.cuts[way]; known {
		return
	}
	priority := firstCutRule + len(n.cuts)
	n.must("-n", n.router(), "rule", "add", "from", n.ip(from), "to", n.ip(to), "priority", strconv.Itoa(priority), "blackhole")
	n.cuts[way] = priority
}

// cut loses every packet between two hosts.
func (n *network) cut(one, other string) {
	n.t.Helper()
	n.drop(one, other)
	n.drop(other, one)
}

// isolate cuts a host off from every other one.
func (n *network) isolate(host string) {
	n.t.Helper()
	for other := range n.place {
		if other != host {
			n.cut(host, other)
		}
	}
}

// mend ends all cuts.
func (n *network) mend() {
	n.t.Helper()
	for way, priority := range n.cuts {
		n.must("-n", n.router(), "rule", "del", "priority", strconv.Itoa(priority))
		delete(n.cuts, way)
	}
}

// remove deletes all namespaces; links and routes go with them.
func (n *network) remove() {
	for host := range n.place {
		if err := ip("netns", "del", n.namespace(host)); err != nil {
			n.t.Error(err)
		}
	}
	if err := ip("netns", "del", n.router()); err != nil {
		n.t.Error(err)
	}
}

func (n *network) must(args ...string) {
	n.t.Helper()
	if err := ip(args...); err != nil {
		n.t.Fatal(err)
	}
}

func ip(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout) // cleanups call it too
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// removeLeftNetworks removes what runs have left that were killed: those whose process is gone.
var removeLeftNetworks = sync.OnceFunc(func() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // there never was one
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), netnsName)
		owner, _, _ := strings.Cut(rest, "x")
		pid, err := strconv.Atoi(owner)
		if ok && err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = ip("netns", "del", e.Name())
		}
	}
})

// The partitions are only worth what the network does: each direction is cut for itself, and nothing else.
func TestNetworkDropsOneDirection(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "a", "b", "c")
	sockets := map[string]*net.UDPConn{}
	for host := range n.place {
		sockets[host] = n.listen(host)
	}
	arrives := func(from, to string) bool {
		t.Helper()
		word := []byte(from + " to " + to)
		target, _ := sockets[to].LocalAddr().(*net.UDPAddr)
		if _, err := sockets[from].WriteToUDP(word, target); err != nil {
			t.Fatalf("%s: %s", word, err)
		}
		if err := sockets[to].SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		size, err := sockets[to].Read(got)
		return err == nil && bytes.Equal(got[:size], word)
	}
	check := func(when string, lost ...[2]string) {
		t.Helper()
		for from := range n.place {
			for to := range n.place {
				want := true
				for _, way := range lost {
					want = want && way != [2]string{from, to}
				}
				if from != to && arrives(from, to) != want {
					t.Errorf("%s: a packet from %s to %s arrives: %t", when, from, to, !want)
				}
			}
		}
	}
	check("nothing is cut")
	n.drop("a", "b")
	check("a to b is cut", [2]string{"a", "b"})
	n.mend()
	check("all is mended")
	n.isolate("c")
	check("c is alone", [2]string{"a", "c"}, [2]string{"c", "a"}, [2]string{"b", "c"}, [2]string{"c", "b"})
}

// listen opens a socket on a host, for this process.
func (n *network) listen(host string) (conn *net.UDPConn) {
	n.t.Helper()
	var err error
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		runtime.LockOSThread() // for good: the thread ends with this function, because it is not where the others are
		var ns *os.File
		if ns, err = os.Open("/run/netns/" + n.namespace(host)); err != nil {
			return
		}
		defer func() { _ = ns.Close() }()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(n.ip(host))})
	}()
	<-opened
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
