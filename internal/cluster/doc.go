// Package cluster starts a real Kubernetes on one machine, for tests.
//
// Two things can be had:
//
//   - [ControlPlane], for a test: etcd and kube-apiserver on loopback, no root
//     needed. It knows every API and runs no pod. Users with fewer rights, YAML
//     and definitions of custom resources are applied with its methods.
//   - [Up], for end-to-end scenarios: nodes that run containers, with kube-proxy,
//     Argo CD, an OCI registry, a git server and a gateway. It needs root on
//     Linux. "go run ./internal/cluster/cmd" is the same as a command.
//
// Everything is built once from pinned Go modules (tools/cluster) into the
// user's cache folder; a container runtime, Redis and the network tools are the
// distribution's (tools/setup.sh e2e). No image is pulled from anywhere.
//
// A whole cluster lives in control groups and in mount, network, process and
// cgroup namespaces of its own. The machine's interfaces, packet filters, mounts
// and kernel settings stay as they are, and [Down] leaves nothing; it works from
// the control groups, so it does not matter who was killed before.
//
// A node is a container runtime and a kubelet with a network, mounts and control
// groups of its own, an address in the network of the host, and the kernel of the
// machine. What a probe on a node sees is the node: in the root of version 2 of
// its control groups are its pods and daemons and nothing else, and its file
// system for pinned eBPF objects is its own.
//
// There is no DNS in the cluster: use cluster IPs or the addresses in [Info].
package cluster
