package k8s

import (
	"fmt"
	"time"
)

// AbsentError means that something a rollout needs is not in the cluster.
type AbsentError struct {
	Namespace string
	Objects   []string // such as "deployment shop-canary"
	Kind      string   // the kind of object that the API server does not know; empty if it knows all
	First     bool     // the stable Deployment is among them: nothing has been released here yet
}

func (e *AbsentError) Error() string {
	if e.Kind != "" {
		return fmt.Sprintf("this cluster has no %s", e.Kind)
	}
	return fmt.Sprintf("namespace %s has no %s", e.Namespace, list(e.Objects))
}

// Hint says what to do about it.
func (e *AbsentError) Hint() string {
	if e.Kind != "" {
		return "install the Gateway API CRDs (v1.0 or later, standard channel), or set deploy.kubernetes.traffic: replicas in sluice.yaml"
	}
	return "check deploy.kubernetes.namespace and name in sluice.yaml, and that Argo CD has synced what sluice-argo render wrote"
}

// UnfitError means that an object is ours and there, but not what a rollout
// needs.
type UnfitError struct {
	Object, Reason string
}

func (e *UnfitError) Error() string { return e.Object + " " + e.Reason }

// Hint says what to do about it.
func (e *UnfitError) Hint() string {
	return "write the manifests again with sluice-argo render, commit them and let Argo CD sync"
}

// WeightsError means that traffic is already divided, and not by a rollout of
// ours.
type WeightsError struct {
	Object string
	What   string // how it is divided
	By     string // who wrote that, as far as that can be told
}

func (e *WeightsError) Error() string {
	return fmt.Sprintf("%s %s, set by %s: those are not weights of ours and stay as they are", e.Object, e.What, e.By)
}

// Hint says what to do about it.
func (e *WeightsError) Hint() string {
	return "a rollout starts from rest: weights 100 (stable) and 0 (canary), 0 canary replicas; put them back, and remove whatever scales or shifts beside us"
}

// ChangedError means that somebody else moved traffic during the rollout.
type ChangedError struct {
	Object  string
	Was, Is string
	By      string // who wrote that, as far as that can be told
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s was changed during the rollout by %s: from %s to %s", e.Object, e.By, e.Was, e.Is)
}

// Hint says what to do about it.
func (e *ChangedError) Hint() string {
	return "keep others away during a rollout; for Argo CD: ignoreDifferences for the weights and the canary's replicas with RespectIgnoreDifferences=true (sluice-argo render writes both)"
}

// NoEndpointsError means that no pod of the stable version serves: there is
// nothing to compare a canary with.
type NoEndpointsError struct {
	Service string
	Why     string // in the pods' own words
}

func (e *NoEndpointsError) Error() string {
	return fmt.Sprintf("service %s has no ready endpoint: %s", e.Service, e.Why)
}

// Hint says what to do about it.
func (e *NoEndpointsError) Hint() string {
	return fmt.Sprintf("a canary is compared with a stable version that serves; look at: kubectl get endpointslices -l kubernetes.io/service-name=%s", e.Service)
}

// NotReadyError says why the canary did not get ready, in the words of its pods.
type NotReadyError struct {
	Deployment string
	Namespace  string
	Image      string
	Want, Have int           // pods
	After      time.Duration // how long was waited
	Why        string
	Early      bool // waiting longer would not have helped
}

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("deployment %s has %d of %d pods ready after %v: %s", e.Deployment, e.Have, e.Want, e.After.Round(100*time.Millisecond), e.Why)
}

// Hint says where to look.
func (e *NotReadyError) Hint() string {
	hint := fmt.Sprintf("the stable version was not touched; the canary's image is %s", e.Image)
	if !e.Early {
		hint += "; more time: deploy.kubernetes.ready in sluice.yaml"
	}
	return hint
}
