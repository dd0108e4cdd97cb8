// Command service behaves as its first argument says.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch mode := os.Args[1]; mode {
	case "serve":
		serve(listen(os.Args[2]))
	case "two": // both are there before either answers
		public, admin := listen(":8080"), listen("127.0.0.1:9090")
		go serve(admin)
		serve(public)
	case "silent":
		time.Sleep(time.Hour)
	case "panic":
		var m map[string]int
		m["x"]++
	case "exit":
		for i := range 20 {
			fmt.Fprintf(os.Stderr, "line %d\n", i)
		}
		fmt.Fprintln(os.Stderr, "no such database")
		os.Exit(3)
	case "mute": // accepts and never answers
		l := listen(":8080")
		for {
			if _, err := l.Accept(); err != nil {
				panic(err)
			}
		}
	case "child": // leaves a process outside its process group
		cmd := exec.Command(os.Args[0], "silent", os.Args[2])
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		serve(listen(":8080"))
	}
}

func listen(addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return l
}

func serve(l net.Listener) {
	began := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/clock", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, time.Now().UnixNano()) })
	mux.HandleFunc("/environ", func(w http.ResponseWriter, _ *http.Request) {
		dir, _ := os.Getwd()
		fmt.Fprintf(w, "%s in %s\n", strings.Join(os.Environ(), " "), dir)
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(began) < 300*time.Millisecond {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		w.Write(block)
		debug.FreeOSMemory()
	})
	fmt.Fprintln(os.Stderr, "listening")
	fmt.Fprintln(os.Stderr, http.Serve(l, mux))
	os.Exit(1)
}
