package render

import (
	"maps"
	"path"
	"strconv"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	network "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-cd/sluice/policies"
)

const (
	probeName  = "sluice-probe"
	cgroupRoot = "/sys/fs/cgroup"
	// hostCgroup is where the daemon finds the node's control groups; at the usual
	// place a container has its own.
	hostCgroup = "/host/cgroup"
	profile    = "seccomp-probe.json"
)

// probe is what is applied once for the cluster: a daemon on every node.
func probe(s *service) (map[string][]byte, error) {
	ref, _ := parseImage(s.o.ProbeImage) // was checked
	files, err := write(
		probeDir, kustomization{Images: []image{ref.as(probeName)}},
		file{"namespace.yaml", []doc{{"The daemon loads eBPF: no other pod should be here.", s.probeNamespace()}}},
		file{"daemonset.yaml", []doc{{"It talks to nobody and has no rights in the cluster.", s.probeAccount()}, {daemonComment, s.daemonSet()}}},
		file{"network.yaml", []doc{
			{"For Prometheus; hooks ask the pods directly.", s.probeService()},
			{"Who may read what is measured: hooks and Prometheus. Nothing goes out.", s.probeNetwork()},
		}},
	)
	if err != nil {
		return nil, err
	}
	if files[probeDir+"/README.md"], err = readme(s, "probe.tmpl"); err != nil || s.o.Seccomp == "" {
		return files, err
	}
	files[probeDir+"/"+profile], err = policies.FS.ReadFile(profile)
	return files, err
}

const daemonComment = `Rights: eBPF (BPF, PERFMON, NET_ADMIN) and nothing else; when it has attached, the daemon puts
its own seccomp filter and Landlock rules on itself. With hostPID the processes that it names
are those of the node; what is measured does not depend on it. Nodes older than Linux 5.11
need the capability SYS_RESOURCE as well.`

func (s *service) probeMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.k.Probe.Namespace, Labels: map[string]string{
		nameLabel: probeName, "app.kubernetes.io/managed-by": "sluice", "app.kubernetes.io/part-of": "sluice",
	}}
}

func (s *service) probeNamespace() core.Namespace {
	m := s.probeMeta(s.k.Probe.Namespace)
	m.Namespace = ""
	m.Labels["pod-security.kubernetes.io/enforce"] = "privileged" // host folders and capabilities
	return core.Namespace{TypeMeta: kind("v1", "Namespace"), ObjectMeta: m}
}

func (s *service) probeAccount() core.ServiceAccount {
	return core.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"), ObjectMeta: s.probeMeta(probeName), AutomountServiceAccountToken: ptr(false)}
}

func (s *service) daemonSet() apps.DaemonSet {
	m := s.probeMeta(probeName)
	return apps.DaemonSet{
		TypeMeta: kind("apps/v1", "DaemonSet"), ObjectMeta: m,
		Spec: apps.DaemonSetSpec{
			Selector:             &metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: probeName}},
			RevisionHistoryLimit: ptr(int32(3)),
			UpdateStrategy: apps.DaemonSetUpdateStrategy{
				Type: apps.RollingUpdateDaemonSetStrategyType, RollingUpdate: &apps.RollingUpdateDaemonSet{MaxUnavailable: ptr(intstr.FromString("10%"))},
			},
			Template: core.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(m.Labels)}, Spec: s.probePod()},
		},
	}
}

func (s *service) probePod() core.PodSpec {
	volumes, mounts := s.probeVolumes()
	return core.PodSpec{
		ServiceAccountName: probeName, AutomountServiceAccountToken: ptr(false), EnableServiceLinks: ptr(false),
		HostPID:                       true,
		NodeSelector:                  map[string]string{"kubernetes.io/os": "linux"},
		Tolerations:                   []core.Toleration{{Operator: core.TolerationOpExists}},
		PriorityClassName:             "system-node-critical",
		TerminationGracePeriodSeconds: ptr(int64(15)),
		SecurityContext:               &core.PodSecurityContext{SeccompProfile: s.seccomp()},
		Volumes:                       volumes,
		Containers: []core.Container{{
			Name: probeName, Image: probeName, ImagePullPolicy: core.PullIfNotPresent,
			Args: []string{
				"--cgroup", hostCgroup, "--pin", "/sys/fs/bpf/" + probeName, "--history", "dir:/var/lib/" + probeName,
				"--listen", "unix:/run/" + probeName + "/probe.sock", "--listen", "tcp::" + strconv.Itoa(s.k.Probe.Port), "--log-format", "json",
				// A node has 110 pods by default; each may serve, and each container may call others.
				"--workloads", "512",
			},
			Env: []core.EnvVar{
				{Name: "SLUICE_PROBE_NODE", ValueFrom: &core.EnvVarSource{FieldRef: &core.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
				// Counters go on over a restart of the pod, so a gate does not lose sight.
				{Name: "SLUICE_PROBE_KEEP", Value: "true"},
			},
			Ports:           []core.ContainerPort{{Name: "http", ContainerPort: int32(s.k.Probe.Port), Protocol: core.ProtocolTCP}},
			StartupProbe:    asks("/healthz", time.Second, 60),
			ReadinessProbe:  asks("/readyz", 2*time.Second, 2),
			LivenessProbe:   asks("/healthz", 10*time.Second, 3),
			VolumeMounts:    mounts,
			SecurityContext: probeConfined(),
			// Maps count as memory of the daemon: 13 KiB for each workload and each of up to eight processors.
			Resources: core.ResourceRequirements{
				Requests: core.ResourceList{core.ResourceCPU: resource.MustParse("20m"), core.ResourceMemory: resource.MustParse("96Mi")},
				Limits:   core.ResourceList{core.ResourceMemory: resource.MustParse("512Mi")},
			},
			TerminationMessagePolicy: core.TerminationMessageFallbackToLogsOnError,
		}},
	}
}

func asks(path string, every time.Duration, failures int32) *core.Probe {
	p := connects(every, failures)
	p.ProbeHandler = core.ProbeHandler{HTTPGet: &core.HTTPGetAction{Path: path, Port: intstr.FromString("http")}}
	return p
}

// probeVolumes are folders of the node: its control groups to attach to, pins and
// history to outlive the pod, and the socket for whoever is root on the node.
func (s *service) probeVolumes() (volumes []core.Volume, mounts []core.VolumeMount) {
	cgroup := s.o.Cgroup
	if cgroup == "" {
		cgroup = cgroupRoot
	}
	for _, v := range []struct {
		name, host, at string
		kind           core.HostPathType
		readOnly       bool
		propagation    core.MountPropagationMode
	}{
		{"cgroup", path.Clean(cgroup), hostCgroup, core.HostPathDirectory, true, ""},
		{"bpf", "/sys/fs/bpf", "/sys/fs/bpf", core.HostPathDirectory, false, core.MountPropagationHostToContainer},
		{"history", "/var/lib/" + probeName, "/var/lib/" + probeName, core.HostPathDirectoryOrCreate, false, ""},
		{"run", "/run/" + probeName, "/run/" + probeName, core.HostPathDirectoryOrCreate, false, ""},
	} {
		volumes = append(volumes, core.Volume{Name: v.name, VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: v.host, Type: ptr(v.kind)}}})
		m := core.VolumeMount{Name: v.name, MountPath: v.at, ReadOnly: v.readOnly}
		if v.propagation != "" {
			m.MountPropagation = ptr(v.propagation)
		}
		mounts = append(mounts, m)
	}
	return volumes, mounts
}

// seccomp names the profile. One on the node has to be put there by whoever makes
// nodes: a pod that writes it would need more rights than it takes away.
func (s *service) seccomp() *core.SeccompProfile {
	if s.o.Seccomp == "" {
		return &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault}
	}
	return &core.SeccompProfile{Type: core.SeccompProfileTypeLocalhost, LocalhostProfile: ptr(s.o.Seccomp)}
}

func probeConfined() *core.SecurityContext {
	c := confined()
	c.RunAsUser = ptr(int64(0)) // capabilities of a container are for root
	c.Capabilities.Add = []core.Capability{"BPF", "NET_ADMIN", "PERFMON"}
	return c
}

func (s *service) probeService() core.Service {
	return core.Service{
		TypeMeta: kind("v1", "Service"), ObjectMeta: s.probeMeta(probeName),
		Spec: core.ServiceSpec{
			ClusterIP: core.ClusterIPNone, Selector: map[string]string{nameLabel: probeName},
			Ports: []core.ServicePort{{Name: "http", Port: int32(s.k.Probe.Port), TargetPort: intstr.FromString("http")}},
		},
	}
}

func (s *service) probeNetwork() network.NetworkPolicy {
	anywhere := func(labels map[string]string) network.NetworkPolicyPeer {
		return network.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{MatchLabels: labels}}
	}
	return network.NetworkPolicy{
		TypeMeta: kind("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: s.probeMeta(probeName),
		Spec: network.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: probeName}},
			PolicyTypes: []network.PolicyType{network.PolicyTypeIngress, network.PolicyTypeEgress},
			Ingress: []network.NetworkPolicyIngressRule{{
				From:  []network.NetworkPolicyPeer{anywhere(map[string]string{nameLabel: hookImage}), anywhere(map[string]string{nameLabel: "prometheus"})},
				Ports: []network.NetworkPolicyPort{{Protocol: ptr(core.ProtocolTCP), Port: ptr(intstr.FromString("http"))}},
			}},
		},
	}
}
