package apiserver

import (
	"errors"
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Connect finds the cluster: that of the named kubeconfig file; with "" the one
// that this process is a pod of, and outside a cluster that of $KUBECONFIG or
// ~/.kube/config. Nothing is sent. The error is a *ConnectError.
func Connect(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err == nil {
			return cfg, nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, &ConnectError{Where: "the service account of this pod", Err: err}
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	where := kubeconfig
	if where == "" {
		where = "$KUBECONFIG or ~/.kube/config"
	}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, &ConnectError{Where: where, Err: err}
	}
	return cfg, nil
}

// ConnectError means that it cannot be told which cluster is meant.
type ConnectError struct {
	Where string
	Err   error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("finding the cluster in %s: %v", e.Where, e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *ConnectError) Hint() string {
	return "in a pod set automountServiceAccountToken: true; elsewhere set KUBECONFIG, and try: kubectl config view --minify"
}
