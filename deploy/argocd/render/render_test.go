package render

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/policies"
)

// find decodes the object of a kind and name in a rendered file.
func find[T any](t *testing.T, files map[string][]byte, file, kind, name string) T {
	t.Helper()
	for _, text := range strings.Split(string(files[file]), "\n---\n") {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind != kind || head.Metadata.Name != name {
			continue
		}
		var into T
		if err := yaml.UnmarshalStrict([]byte(text), &into); err != nil {
			t.Fatal(err)
		}
		return into
	}
	t.Fatalf("%s has no %s %s:\n%s", file, kind, name, files[file])
	panic("unreachable")
}

func TestEveryHookEndsByItself(t *testing.T) {
	files := rendered(t, "replicas", Options{}, "deadline: 10m", "deadline: 100h", "replicas: 4", "replicas: 4\n    ready: 7m")
	for name, want := range map[string]struct {
		phase, wave string
		deadline    time.Duration
	}{
		"shop-presync":  {"PreSync", "0", 4 * time.Minute},
		"shop-gate":     {"Sync", "1", 100*time.Hour + 12*time.Minute},
		"shop-postsync": {"PostSync", "0", 4 * time.Minute},
		"shop-syncfail": {"SyncFail", "0", 5 * time.Minute},
	} {
		job := find[batch.Job](t, files, "base/hooks.yaml", "Job", name)
		if job.Annotations["argocd.argoproj.io/hook"] != want.phase || job.Annotations["argocd.argoproj.io/sync-wave"] != want.wave {
			t.Errorf("%s: %v", name, job.Annotations)
		}
		if got := time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second; got != want.deadline {
			t.Errorf("%s may take %v, want %v", name, got, want.deadline)
		}
		if kept := time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second; kept < 100*time.Hour {
			t.Errorf("%s is gone after %v, while the sync still goes on", name, kept)
		}
		pod := job.Spec.Template.Spec
		if pod.RestartPolicy != core.RestartPolicyNever || *job.Spec.BackoffLimit < 1 || job.Spec.PodFailurePolicy.Rules[0].Action != batch.PodFailurePolicyActionIgnore {
			t.Errorf("%s: an eviction counts as a verdict: %+v", name, job.Spec)
		}
		if grace := *pod.TerminationGracePeriodSeconds; grace < 30 || name == "shop-gate" && grace < 60+60+10+10+3 {
			t.Errorf("%s has %d s to take the traffic off the canary and to tell why", name, grace)
		}
		secret := slices.ContainsFunc(pod.Volumes, func(v core.Volume) bool { return v.Secret != nil })
		if secret != (name == "shop-syncfail" || name == "shop-presync") {
			t.Errorf("%s has the credentials of git: %v", name, secret)
		}
		if job.Spec.Template.Labels[nameLabel] == "shop" {
			t.Errorf("%s is a pod of the service", name)
		}
	}
}

func TestNothingOfTheServiceIsExpanded(t *testing.T) {
	files := rendered(t, "replicas", Options{}, "service:\n", "service:\n  args: ['--x=$(HOME)', '$$']\n", "SHOP_LATENCY: 5ms", "SHOP_LATENCY: $(PATH), EMPTY: ''")
	c := find[apps.Deployment](t, files, "base/deployments.yaml", "Deployment", "shop-canary").Spec.Template.Spec.Containers[0]
	if diff := cmp.Diff([]string{"--x=$$(HOME)", "$$"}, c.Args); diff != "" {
		t.Error(diff)
	}
	want := []core.EnvVar{{Name: "EMPTY"}, {Name: "SHOP_LAME_DUCK", Value: "300ms"}, {Name: "SHOP_LATENCY", Value: "$$(PATH)"}}
	if diff := cmp.Diff(want, c.Env); diff != "" {
		t.Error(diff)
	}
}

func TestHealthIsAskedForOnlyAtTheStart(t *testing.T) {
	for name, tt := range map[string]struct {
		replace []string
		http    bool
	}{
		"with a path for it": {nil, true},
		"without one":        {[]string{"  health: /healthz\n", ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			files := rendered(t, "replicas", Options{}, tt.replace...)
			c := find[apps.Deployment](t, files, "base/deployments.yaml", "Deployment", "shop-stable").Spec.Template.Spec.Containers[0]
			if (c.StartupProbe.HTTPGet != nil) != tt.http || (c.StartupProbe.TCPSocket != nil) == tt.http {
				t.Errorf("at the start: %+v", c.StartupProbe)
			}
			if c.ReadinessProbe.HTTPGet != nil || c.LivenessProbe.HTTPGet != nil {
				t.Error("health checks would be counted as requests")
			}
		})
	}
}

func TestTheStableVersionComesLast(t *testing.T) {
	files := rendered(t, "httproute", Options{})
	waves := map[string]string{}
	for _, track := range []string{stable, canary} {
		d := find[apps.Deployment](t, files, "base/deployments.yaml", "Deployment", "shop-"+track)
		waves[track] = d.Annotations["argocd.argoproj.io/sync-wave"]
		if n := *d.Spec.Replicas; (n == 0) != (track == canary) {
			t.Errorf("%s has %d pods in git", track, n)
		}
	}
	waves["route"] = find[httpRoute](t, files, "base/route.yaml", "HTTPRoute", "shop").Annotations["argocd.argoproj.io/sync-wave"]
	if diff := cmp.Diff(map[string]string{"route": "-1", canary: "0", stable: "2"}, waves); diff != "" {
		t.Error(diff)
	}
}

func TestRoutes(t *testing.T) {
	for name, tt := range map[string]struct {
		replace []string
		rules   int
	}{
		"with a header, its rule first": {nil, 2},
		"without a header":              {[]string{"    header: \"x-env: canary\"\n", ""}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := find[httpRoute](t, rendered(t, "httproute", Options{}, tt.replace...), "base/route.yaml", "HTTPRoute", "shop")
			if len(r.Spec.Rules) != tt.rules || r.Spec.Rules[tt.rules-1].Matches != nil {
				t.Fatalf("rules %+v", r.Spec.Rules)
			}
			for _, rule := range r.Spec.Rules {
				if diff := cmp.Diff([]backendRef{{"shop-stable", 80, 100}, {"shop-canary", 80, 0}}, rule.BackendRefs); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	if _, ok := rendered(t, "replicas", Options{})["base/route.yaml"]; ok {
		t.Error("a route without one being asked for")
	}
}

// TestAFailedSyncIsNotRepeated looks at the text: the type of Argo CD would leave out a limit of 0, and then it is 5.
func TestAFailedSyncIsNotRepeated(t *testing.T) {
	for _, sample := range []string{"replicas", "httproute"} {
		text := string(rendered(t, sample, Options{})["setup/application.yaml"])
		if !strings.Contains(text, "    retry:\n      limit: 0\n") {
			t.Errorf("%s:\n%s", sample, text)
		}
		if respects := strings.Contains(text, "RespectIgnoreDifferences=true"); respects != (sample == "replicas") {
			t.Errorf("%s: RespectIgnoreDifferences %v", sample, respects)
		}
	}
}

func TestTheProbeOfOtherNodes(t *testing.T) {
	files := rendered(t, "replicas", Options{Only: Cluster, Cgroup: "/sys/fs/cgroup/unified/", Seccomp: "sluice/probe.json"}, "replicas: 4", "probe: {namespace: probes, port: 1234}")
	d := find[apps.DaemonSet](t, files, "probe/daemonset.yaml", "DaemonSet", "sluice-probe")
	pod := d.Spec.Template.Spec
	if p := pod.SecurityContext.SeccompProfile; p.Type != core.SeccompProfileTypeLocalhost || *p.LocalhostProfile != "sluice/probe.json" {
		t.Errorf("profile %+v", p)
	}
	if d.Namespace != "probes" || pod.Containers[0].Ports[0].ContainerPort != 1234 || pod.Volumes[0].HostPath.Path != "/sys/fs/cgroup/unified" {
		t.Errorf("%+v", d)
	}
	want, err := policies.FS.ReadFile("seccomp-probe.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(files["probe/seccomp-probe.json"])); diff != "" {
		t.Error(diff)
	}
	for name := range files {
		if strings.HasPrefix(name, "base/") || !strings.Contains(name, "/") {
			t.Errorf("%s is not of the cluster", name)
		}
	}
}

func TestReadmeSaysWhatHappensInGit(t *testing.T) {
	for revert, want := range map[string]string{"push": "The commit is reverted in git.", "branch": "put on a branch for you to merge.", "'off'": "Git is left alone (`revert: off`)."} {
		readme := string(rendered(t, "replicas", Options{}, "    secret: shop-git\n", "    revert: "+revert+"\n")["README.md"])
		if !strings.Contains(readme, want) || strings.Contains(readme, "create secret") {
			t.Errorf("with %s:\n%s", revert, readme)
		}
	}
}

// TestTheSmallestFileIsEnough renders what a user has who has given no more than what must be.
func TestTheSmallestFileIsEnough(t *testing.T) {
	text := `{name: hello, build: {main: .}, service: {port: 8080}, publish: {registry: registry.example.com/hello},
deploy: {target: kubernetes, argocd: {repository: 'https://git.example.com/hello.git', path: .}}}`
	cfg, err := config.Parse([]byte(text), "sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files, err := Render(cfg, Options{HookImage: hookRef, ProbeImage: probeRef, Config: []byte(text), PublicKey: []byte("key")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(files["kustomization.yaml"]), "newTag: unreleased") {
		t.Errorf("%s", files["kustomization.yaml"])
	}
	built(t, copied(t, files))
}

func TestASecretIsMountedWhereItIsNeeded(t *testing.T) {
	files := rendered(t, "replicas", Options{}, "replicas: 4", "replicas: 4\n    pull_secret: registry\n    hook_memory: 1Gi\n    ledger: {etcd: ['https://etcd.example.com:2379'], secret: etcd}")
	for _, name := range []string{"shop-stable", "shop-canary"} {
		pod := find[apps.Deployment](t, files, "base/deployments.yaml", "Deployment", name).Spec.Template.Spec
		if diff := cmp.Diff([]core.LocalObjectReference{{Name: "registry"}}, pod.ImagePullSecrets); diff != "" || len(pod.Volumes) != 0 {
			t.Errorf("%s pulls with (-want +got):\n%s", name, diff)
		}
	}
	for name, want := range map[string]string{
		"shop-presync": "shop-git@/etc/sluice-git registry@/etc/sluice-registry etcd@/etc/sluice-etcd", "shop-gate": "registry@/etc/sluice-registry etcd@/etc/sluice-etcd",
		"shop-postsync": "etcd@/etc/sluice-etcd", "shop-syncfail": "shop-git@/etc/sluice-git etcd@/etc/sluice-etcd",
	} {
		pod := find[batch.Job](t, files, "base/hooks.yaml", "Job", name).Spec.Template.Spec
		var got []string
		for i, v := range pod.Volumes {
			if v.Secret != nil {
				got = append(got, v.Secret.SecretName+"@"+pod.Containers[0].VolumeMounts[i].MountPath)
			}
		}
		env := map[string]string{}
		for _, e := range pod.Containers[0].Env {
			env[e.Name] = e.Value
		}
		if strings.Join(got, " ") != want || (env["DOCKER_CONFIG"] == "/etc/sluice-registry") != strings.Contains(want, "registry") || len(pod.ImagePullSecrets) != 1 {
			t.Errorf("%s has %v, environment %v, pulls with %v", name, got, env, pod.ImagePullSecrets)
		}
		if limit := pod.Containers[0].Resources.Limits.Memory().Value(); limit != 1<<30 || env["GOMEMLIMIT"] != "966367638" {
			t.Errorf("%s may take %d bytes, and collects at %s", name, limit, env["GOMEMLIMIT"])
		}
	}
}
