package render

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hookImage is what manifests call the image of the hooks; the kustomization of
// base says which one that is.
const hookImage = "sluice-argo"

// Where hooks find what is in Secrets.
const (
	gitDir      = "/etc/sluice-git"      // credentials of the git repository
	registryDir = "/etc/sluice-registry" // config.json of the pull secret
	etcdDir     = "/etc/sluice-etcd"     // whom to trust, and who we are
)

// hook is one Job in a phase of a sync.
type hook struct {
	name, phase, argument string
	wave                  string
	comment               string
	deadline              time.Duration // of all tries together
	grace                 time.Duration // from SIGTERM on, to put traffic back
	git, registry         bool          // does it need the credentials?
}

func (s *service) hooks() []doc {
	var docs []doc
	for _, h := range s.hookList() {
		docs = append(docs, doc{h.comment, s.job(h)})
	}
	return docs
}

func (s *service) hookList() []hook {
	rollout := s.cfg.Deploy.Canary.Deadline.Std()
	return []hook{
		{
			name: "presync", phase: "PreSync", argument: "presync", wave: "0", deadline: 4 * time.Minute, grace: 30 * time.Second,
			comment: "Is the image signed, attested and allowed? Was it judged before? Is there such a revision?", git: true, registry: true,
		},
		{
			// Getting ready, the rollout itself, and time for a pod that has to be placed
			// anew and goes on where the one before it ended. A hook ends by itself earlier.
			// From SIGTERM on it tries twice to take the traffic off the canary, for a minute
			// each with an API server that is slow, and then tells why, for 23 seconds.
			name: "gate", phase: "Sync", argument: "sync", wave: waveGate,
			deadline: rollout + s.k.Ready.Std() + 5*time.Minute, grace: 150 * time.Second,
			comment: "Shifts traffic step by step and judges the new version. Its exit status is the verdict.", registry: true,
		},
		{
			name: "postsync", phase: "PostSync", argument: "postsync", wave: "0", deadline: 4 * time.Minute, grace: 30 * time.Second,
			comment: "Traffic to the stable version, which is the new one by now; the canary ends.",
		},
		{
			name: "syncfail", phase: "SyncFail", argument: "syncfail", wave: "0", deadline: 5 * time.Minute, grace: 30 * time.Second,
			comment: "Traffic to the stable version, which was not touched; then git is put right.", git: true,
		},
	}
}

func (s *service) job(h hook) batch.Job {
	m := s.meta(s.name+"-"+h.name, "hook")
	// Succeeded Jobs go; failed ones stay for their logs, until the next sync replaces them.
	m.Annotations = hookAnnotations(h.phase, h.wave, "HookSucceeded,BeforeHookCreation")
	labels := s.labels("hook")
	labels[nameLabel] = hookImage
	return batch.Job{
		TypeMeta:   kind("batch/v1", "Job"),
		ObjectMeta: m,
		Spec: batch.JobSpec{
			BackoffLimit:            ptr(int32(3)),
			ActiveDeadlineSeconds:   ptr(int64(seconds(h.deadline))),
			TTLSecondsAfterFinished: ptr(seconds(s.cfg.Deploy.Canary.Deadline.Std() + 24*time.Hour)),
			PodReplacementPolicy:    ptr(batch.Failed),
			PodFailurePolicy:        verdictsAreFinal(),
			Template:                core.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: s.hookPod(h)},
		},
	}
}

func hookAnnotations(phase, wave, policy string) map[string]string {
	return map[string]string{
		"argocd.argoproj.io/hook":               phase,
		"argocd.argoproj.io/sync-wave":          wave,
		"argocd.argoproj.io/hook-delete-policy": policy,
	}
}

// verdictsAreFinal: a pod that was evicted is replaced, whatever it said last; a
// verdict (1 to 5) is not asked for again; anything else is worth another try.
func verdictsAreFinal() *batch.PodFailurePolicy {
	return &batch.PodFailurePolicy{Rules: []batch.PodFailurePolicyRule{
		{
			Action:          batch.PodFailurePolicyActionIgnore,
			OnPodConditions: []batch.PodFailurePolicyOnPodConditionsPattern{{Type: core.DisruptionTarget, Status: core.ConditionTrue}},
		},
		{
			Action:      batch.PodFailurePolicyActionFailJob,
			OnExitCodes: &batch.PodFailurePolicyOnExitCodesRequirement{ContainerName: ptr("hook"), Operator: batch.PodFailurePolicyOnExitCodesOpIn, Values: []int32{1, 2, 3, 4, 5}},
		},
	}}
}

func (s *service) hookPod(h hook) core.PodSpec {
	volumes, mounts := s.hookVolumes(h)
	return core.PodSpec{
		RestartPolicy:                 core.RestartPolicyNever,
		ServiceAccountName:            s.account(),
		AutomountServiceAccountToken:  ptr(true),
		EnableServiceLinks:            ptr(false),
		TerminationGracePeriodSeconds: ptr(int64(seconds(h.grace))),
		SecurityContext:               unprivileged(),
		ImagePullSecrets:              s.pullSecrets(),
		Volumes:                       volumes,
		Containers: []core.Container{{
			Name: "hook", Image: hookImage, ImagePullPolicy: core.PullIfNotPresent,
			Args:         []string{"hook", h.argument},
			Env:          s.hookEnv(h),
			VolumeMounts: mounts,
			Resources: core.ResourceRequirements{
				Requests: core.ResourceList{core.ResourceCPU: resource.MustParse("50m"), core.ResourceMemory: resource.MustParse("64Mi")},
				Limits:   core.ResourceList{core.ResourceMemory: s.hookMemory()},
			},
			SecurityContext:          confined(),
			TerminationMessagePath:   "/dev/termination-log",
			TerminationMessagePolicy: core.TerminationMessageFallbackToLogsOnError,
		}},
	}
}

func (s *service) hookEnv(h hook) []core.EnvVar {
	env := []core.EnvVar{
		{Name: "SLUICE_IMAGE", Value: s.name},
		{Name: "SLUICE_SETTINGS", Value: s.a.Namespace + "/" + s.settingsName()},
		{Name: "SLUICE_APP", Value: s.name},
		{Name: "SLUICE_APP_NAMESPACE", Value: s.a.Namespace},
		{Name: "POD_NAME", ValueFrom: &core.EnvVarSource{FieldRef: &core.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "HOME", Value: "/tmp"},
		// Garbage is collected before the limit is reached, at which the pod would be killed.
		{Name: "GOMEMLIMIT", Value: strconv.FormatInt(ptr(s.hookMemory()).Value()/10*9, 10)},
	}
	if h.registry && s.k.PullSecret != "" {
		env = append(env, core.EnvVar{Name: "DOCKER_CONFIG", Value: registryDir})
	}
	return env
}

func (s *service) hookMemory() resource.Quantity { return resource.MustParse(string(s.k.HookMemory)) } // was checked

// pullSecrets are those of pods of the service and of the hooks.
func (s *service) pullSecrets() []core.LocalObjectReference {
	if s.k.PullSecret == "" {
		return nil
	}
	return []core.LocalObjectReference{{Name: s.k.PullSecret}}
}

func (s *service) hookVolumes(h hook) ([]core.Volume, []core.VolumeMount) {
	volumes := []core.Volume{{Name: "tmp", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{SizeLimit: ptr(resource.MustParse("256Mi"))}}}}
	mounts := []core.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
	for _, v := range []struct {
		name, secret, at string
		needed           bool
		items            []core.KeyToPath
	}{
		{"git", s.a.Secret, gitDir, h.git, nil},
		{"registry", s.k.PullSecret, registryDir, h.registry, []core.KeyToPath{{Key: core.DockerConfigJsonKey, Path: "config.json"}}},
		{"etcd", s.k.Ledger.Secret, etcdDir, true, nil},
	} {
		if v.secret == "" || !v.needed {
			continue
		}
		// Optional, so that a hook can say that it is missing: a pod without its volume says nothing.
		volumes = append(volumes, core.Volume{Name: v.name, VolumeSource: core.VolumeSource{Secret: &core.SecretVolumeSource{
			SecretName: v.secret, Optional: ptr(true), DefaultMode: ptr(int32(0o440)), Items: v.items,
		}}})
		mounts = append(mounts, core.VolumeMount{Name: v.name, MountPath: v.at, ReadOnly: true})
	}
	return volumes, mounts
}

// environment is sorted, so that the same file gives the same manifest.
func environment(env map[string]string) []core.EnvVar {
	var list []core.EnvVar
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, core.EnvVar{Name: name, Value: literal(env[name])})
	}
	return list
}

// literal keeps Kubernetes from expanding $(NAME): in sluice.yaml nothing is.
func literal(text string) string { return strings.ReplaceAll(text, "$(", "$$(") }

func literals(list []string) []string {
	out := make([]string, len(list))
	for i, text := range list {
		out[i] = literal(text)
	}
	return out
}
