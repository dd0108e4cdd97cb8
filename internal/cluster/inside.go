package cluster

import (
	"fmt"
	"os"
	"path/filepath"
)

// How the processes of a cluster that run this program are called.
const (
	supervisorName = "sluice-cluster-supervisor"
	nodeName       = "sluice-cluster-node"
)

// Inside must be called first thing in the main function of a program that uses
// [Up]. It returns at once, unless the program was started by Up to be a part of
// the cluster: then it never returns.
func Inside() {
	var err error
	switch filepath.Base(os.Args[0]) {
	case supervisorName:
		err = supervise(state(os.Args[1]))
	case nodeName:
		err = node(state(os.Args[1]), os.Args[2])
	default:
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
	}
	os.Exit(1)
}

// onStarter runs f on the thread that starts the children.
func onStarter(f func() error) error {
	result := make(chan error)
	starter() <- func() { result <- f() }
	return <-result
}
