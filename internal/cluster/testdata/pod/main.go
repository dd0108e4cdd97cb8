// Command pod is what the tests run in pods: it tells who it is, what a probe
// would find on its node, and what it gets from somebody else.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// fresh makes a connection of its own for every request, for which kube-proxy
// may choose another pod.
var fresh = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprint(w, name)
	})
	http.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		res, err := fresh.Get(r.FormValue("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		_, _ = io.Copy(w, res.Body)
	})
	http.HandleFunc("/node", func(w http.ResponseWriter, _ *http.Request) {
		var fs syscall.Statfs_t
		if err := syscall.Statfs("/sys/fs/bpf", &fs); err != nil || fs.Type != 0xcafe4a11 {
			fmt.Fprintf(w, "no bpf file system: %v; ", err)
		}
		if err := os.Mkdir("/sys/fs/bpf/test", 0o700); err != nil {
			fmt.Fprintf(w, "pinning: %v; ", err)
		}
		dirs, err := os.ReadDir("/node-cgroup")
		if err != nil {
			fmt.Fprintf(w, "control groups: %v; ", err)
		}
		for _, d := range dirs {
			if d.IsDir() {
				fmt.Fprintln(w, strings.TrimSpace(d.Name()))
			}
		}
	})
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		os.Exit(1)
	}
}
