package main

import (
	"net"
	"net/http"
	"os/exec"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// etcds are the etcd servers that run, by script.
var etcds sync.Map

// etcd VAR starts an etcd of the script's own; VAR is its address.
func etcd(ts *testscript.TestScript, _ bool, args []string) {
	client, peer := freeURL(ts), freeURL(ts)
	cmd := exec.Command(
		"etcd", "--data-dir", ts.MkAbs("etcd"), "--log-level", "error", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--enable-v2=false",
	)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ts.Check(cmd.Start())
	etcds.Store(ts.Name(), cmd)
	ts.Defer(func() { noetcd(ts, false, nil) })
	eventually(ts, "etcd", func() bool {
		resp, err := http.Get(client + "/health")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	ts.Setenv(args[0], client)
}

// noetcd ends it.
func noetcd(ts *testscript.TestScript, _ bool, _ []string) {
	if c, ok := etcds.LoadAndDelete(ts.Name()); ok {
		_ = c.(*exec.Cmd).Process.Kill()
		_ = c.(*exec.Cmd).Wait()
	}
}

// freeURL is an address at which nobody listens.
func freeURL(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	return "http://" + l.Addr().String()
}
