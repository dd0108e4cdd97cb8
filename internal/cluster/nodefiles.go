package cluster

const containerdSocket = "/run/containerd/containerd.sock"

// nodeFiles are the settings of a node's programs, by where they are written: in
// the folder of the node, or in /run, which is the node's own. DIR, PKI, NAME and
// so on are filled in.
var nodeFiles = map[string]string{
	"containerd.toml": `version = 2
root = "DIR/containerd"
state = "/run/containerd"
[grpc]
  address = "SOCKET"
[plugins."io.containerd.internal.v1.opt"]
  path = "DIR/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "REGISTRY/pause:1"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "CNI"
  conf_dir = "/run/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/run/registries"
`,
	"/run/registries/" + registryAddress + "/hosts.toml": `server = "https://REGISTRY"
[host."https://REGISTRY"]
  capabilities = ["pull", "resolve"]
  ca = "PKI/ca.crt"
`,
	"/run/cni/net.d/10-pods.conflist": `{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni/addresses", "ranges": [[{"subnet": "PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`,
	"/run/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
	"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: PKI/kubelet-NAME.crt
tlsPrivateKeyFile: PKI/kubelet-NAME.key
containerRuntimeEndpoint: unix://SOCKET
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDomain: cluster.local
resolvConf: /run/resolv.conf
volumePluginDir: /run/kubelet-plugins
# A machine for tests is often nearly full, which is nothing to act on.
evictionHard: {memory.available: 50Mi, nodefs.available: 50Mi, imagefs.available: 50Mi, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
syncFrequency: 5s
nodeStatusUpdateFrequency: 5s
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
oomScoreAdj: 0
shutdownGracePeriod: 0s
`,
	"proxy.yaml": `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
bindAddress: ADDRESS
clientConnection: {kubeconfig: PKI/proxy-NAME.kubeconfig}
clusterCIDR: PODRANGE
hostnameOverride: NAME
# The table of connections is the whole machine's: leave it alone.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
`,
}
