package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Node n has the address 172.30.0.(1+n) and its pods 10.244.n.0/24. All nodes
// and the host hang on one bridge.
const (
	podRange = "10.244.0.0/16"
	lan      = "lan0"
)

func nodeAt(n int) Node {
	return Node{Name: fmt.Sprint("node", n), Address: fmt.Sprint("172.30.0.", 1+n), Pods: fmt.Sprintf("10.244.%d.0/24", n)}
}

// hostNetwork sets up the network namespace of the host. Cluster IPs are known
// to nodes only, so the host goes to the first one for them.
func hostNetwork(ctx context.Context) error {
	return ip(ctx,
		"link set lo up",
		"link add "+lan+" type bridge",
		"addr add "+Host+"/24 dev "+lan,
		"link set "+lan+" up",
		"route add "+serviceRange+" via "+nodeAt(1).Address,
	)
}

// plugIn connects the namespace of a node's process with the bridge.
func plugIn(ctx context.Context, n, pid int) error {
	port, node := fmt.Sprint("port", n), nodeAt(n)
	return ip(ctx,
		"link add "+port+" type veth peer name eth0 netns "+strconv.Itoa(pid),
		"link set "+port+" master "+lan+" up",
		"route add "+node.Pods+" via "+node.Address,
	)
}

// nodeNetwork sets up the namespace of a node once its interface is there.
func nodeNetwork(ctx context.Context, n, nodes int) error {
	if err := ip(ctx, "link set lo up", "addr add "+nodeAt(n).Address+"/24 dev eth0", "link set eth0 up", "route add default via "+Host); err != nil {
		return err
	}
	for other := 1; other <= nodes; other++ {
		if other == n {
			continue
		}
		if err := ip(ctx, "route add "+nodeAt(other).Pods+" via "+nodeAt(other).Address); err != nil {
			return err
		}
	}
	// These two are settings of the namespace.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("letting packets pass: %w", err)
	}
	// Without the bridge module's filter, traffic between pods is not looked at.
	_ = os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0)
	return nil
}

// ip runs the command of that name, once for each line of arguments.
func ip(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
