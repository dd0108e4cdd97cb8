package render

import (
	"maps"
	"math"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	nameLabel  = "app.kubernetes.io/name"
	trackLabel = "sluice.dev/track"
	stable     = "stable"
	canary     = "canary"
	// drain is how long a pod goes on serving after it was taken out of the
	// Services: kube-proxies and gateways need a moment to hear of it.
	drain = 3 * time.Second
	// user is that of the images that Sluice builds.
	user = int64(65532)
)

// Waves of a sync. Traffic is where it belongs before anything else; the stable
// Deployment comes only after the gate.
const (
	waveTraffic = "-1"
	waveCanary  = "0"
	waveGate    = "1"
	waveStable  = "2"
)

// base is what Argo CD applies, with the image of the service still called by its
// name only.
func base(s *service) (map[string][]byte, error) {
	files := []file{
		{"services.yaml", []doc{
			{"Clients come here, whichever version answers.", s.service("")},
			{"Only how the pods of a version are found, and backends of a route.", s.service(stable)},
			{"", s.service(canary)},
		}},
		{"deployments.yaml", []doc{
			{"The new version. The hooks scale it; in git it has no pod.", s.deployment(canary)},
			{"The version that serves. It is not touched before the gate has passed.", s.deployment(stable)},
			{"", s.budget()},
		}},
		{"hooks.yaml", s.hooks()},
	}
	if s.route() {
		files = append(files, file{"route.yaml", []doc{{"Weights are moved by the hooks, and by nobody else.", s.httpRoute()}}})
	}
	hook, _ := parseImage(s.o.HookImage) // was checked
	return write(baseDir, kustomization{Images: []image{hook.as(hookImage)}}, files...)
}

// service selects the pods of one track, or of both.
func (s *service) service(track string) core.Service {
	name, selector := s.name, map[string]string{nameLabel: s.name}
	if track != "" {
		name, selector[trackLabel] = name+"-"+track, track
	}
	return core.Service{
		TypeMeta:   kind("v1", "Service"),
		ObjectMeta: wave(s.meta(name, ""), waveTraffic),
		Spec: core.ServiceSpec{
			Selector: selector,
			Ports:    []core.ServicePort{{Name: "http", Port: int32(s.k.Port), TargetPort: intstr.FromString("http")}},
		},
	}
}

func (s *service) deployment(track string) apps.Deployment {
	n, replicas := waveCanary, int32(0)
	if track == stable {
		n, replicas = waveStable, int32(s.k.Replicas)
	}
	selector := map[string]string{nameLabel: s.name, trackLabel: track}
	labels := s.labels("")
	maps.Copy(labels, selector)
	return apps.Deployment{
		TypeMeta:   kind("apps/v1", "Deployment"),
		ObjectMeta: wave(s.meta(s.name+"-"+track, ""), n),
		Spec: apps.DeploymentSpec{
			Replicas:                ptr(replicas),
			RevisionHistoryLimit:    ptr(int32(3)),
			ProgressDeadlineSeconds: ptr(seconds(s.k.Ready.Std())),
			Selector:                &metav1.LabelSelector{MatchLabels: selector},
			Strategy: apps.DeploymentStrategy{Type: apps.RollingUpdateDeploymentStrategyType, RollingUpdate: &apps.RollingUpdateDeployment{
				MaxUnavailable: ptr(intstr.FromInt32(0)), MaxSurge: ptr(intstr.FromString("25%")),
			}},
			Template: core.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: s.pod(selector)},
		},
	}
}

func (s *service) pod(selector map[string]string) core.PodSpec {
	c := s.cfg.Service
	return core.PodSpec{
		AutomountServiceAccountToken:  ptr(false),
		EnableServiceLinks:            ptr(false),
		TerminationGracePeriodSeconds: ptr(int64(seconds(drain + c.Stop.Std()))),
		SecurityContext:               unprivileged(),
		ImagePullSecrets:              s.pullSecrets(),
		TopologySpreadConstraints: []core.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: core.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: selector},
		}},
		Containers: []core.Container{{
			Name: s.name, Image: s.name, ImagePullPolicy: core.PullIfNotPresent,
			Args: literals(c.Args), Env: environment(c.Env),
			Ports:           []core.ContainerPort{{Name: "http", ContainerPort: int32(c.Port), Protocol: core.ProtocolTCP}},
			Resources:       s.resources(),
			SecurityContext: confined(),
			StartupProbe:    s.startup(),
			ReadinessProbe:  connects(2*time.Second, 2),
			LivenessProbe:   connects(10*time.Second, 3),
			Lifecycle:       &core.Lifecycle{PreStop: &core.LifecycleHandler{Sleep: &core.SleepAction{Seconds: int64(seconds(drain))}}},

			TerminationMessagePolicy: core.TerminationMessageFallbackToLogsOnError,
		}},
	}
}

// startup asks for health until a pod has started. Afterwards only connections
// are tried: a health check each second would be counted as a request by the
// probe, and a release without clients would be judged by its health checks.
func (s *service) startup() *core.Probe {
	p := connects(time.Second, seconds(s.cfg.Service.Start.Std()))
	if path := s.cfg.Service.Health; path != "" {
		p.ProbeHandler = core.ProbeHandler{HTTPGet: &core.HTTPGetAction{Path: path, Port: intstr.FromString("http")}}
	}
	return p
}

func connects(every time.Duration, failures int32) *core.Probe {
	return &core.Probe{
		ProbeHandler:  core.ProbeHandler{TCPSocket: &core.TCPSocketAction{Port: intstr.FromString("http")}},
		PeriodSeconds: seconds(every), TimeoutSeconds: 2, FailureThreshold: failures,
	}
}

// resources has no limit of processor time: a throttled pod would be measured,
// not the release.
func (s *service) resources() core.ResourceRequirements {
	memory := resource.MustParse(string(s.k.Resources.Memory)) // was checked
	return core.ResourceRequirements{
		Requests: core.ResourceList{core.ResourceCPU: resource.MustParse(string(s.k.Resources.CPU)), core.ResourceMemory: memory},
		Limits:   core.ResourceList{core.ResourceMemory: memory},
	}
}

// budget keeps a drain of nodes from taking more than one pod that serves at a time.
func (s *service) budget() policy.PodDisruptionBudget {
	return policy.PodDisruptionBudget{
		TypeMeta:   kind("policy/v1", "PodDisruptionBudget"),
		ObjectMeta: s.meta(s.name, ""),
		Spec: policy.PodDisruptionBudgetSpec{
			MaxUnavailable: ptr(intstr.FromInt32(1)),
			Selector:       &metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: s.name, trackLabel: stable}},
		},
	}
}

func unprivileged() *core.PodSecurityContext {
	return &core.PodSecurityContext{
		RunAsNonRoot: ptr(true), RunAsUser: ptr(user), RunAsGroup: ptr(user), FSGroup: ptr(user),
		SeccompProfile: &core.SeccompProfile{Type: core.SeccompProfileTypeRuntimeDefault},
	}
}

func confined() *core.SecurityContext {
	return &core.SecurityContext{
		AllowPrivilegeEscalation: ptr(false),
		ReadOnlyRootFilesystem:   ptr(true),
		Capabilities:             &core.Capabilities{Drop: []core.Capability{"ALL"}},
	}
}

// seconds rounds up.
func seconds(d time.Duration) int32 { return int32(math.Ceil(d.Seconds())) }
