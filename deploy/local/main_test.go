package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the service that the tests run, and the sluice that
// they kill.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("TEST_CHILD") != "":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Minute)
	case os.Getenv("TEST_SERVICE") != "":
		serve()
	case os.Getenv("TEST_SLUICE") != "":
		if err := beKilled(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// serve is a service as a user might write it: a fixed port, net/http, a
// graceful end. Its environment says how it misbehaves.
func serve() {
	if words := os.Getenv("EXIT"); words != "" {
		fmt.Fprintln(os.Stderr, words)
		syscall.Exit(3) // these are its last words: os.Exit may add some of a coverage build
	}
	if os.Getenv("FORK") != "" {
		child := exec.Command(os.Args[0])
		child.Env = []string{"TEST_CHILD=1"}
		_ = child.Start()
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if os.Getenv("SILENT") != "" {
		<-term
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, os.Getenv("VERSION")) })
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if status, err := strconv.Atoi(os.Getenv("HEALTH")); err == nil {
			w.WriteHeader(status)
		}
	})
	for _, addr := range []string{os.Getenv("LISTEN"), os.Getenv("SECOND")} {
		if addr == "" {
			continue
		}
		l, err := net.Listen("tcp", addr) // Multipath TCP, as Go does since 1.24
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if os.Getenv("SHARE") != "" {
			share(l.(*net.TCPListener))
		}
		server := &http.Server{Handler: mux}
		defer func() { _ = server.Shutdown(context.Background()) }()
		go func() { _ = server.Serve(l) }()
	}
	<-term
	if os.Getenv("STUBBORN") != "" {
		time.Sleep(time.Minute)
	}
}

// share lets a child hold the socket too, and opens sockets that take no connections.
func share(l *net.TCPListener) {
	file, err := l.File()
	if err != nil {
		panic(err)
	}
	child := exec.Command(os.Args[0])
	child.Env, child.ExtraFiles = []string{"TEST_CHILD=1"}, []*os.File{file}
	if err := errors.Join(child.Start(), syscall.SetNonblock(int(file.Fd()), true)); err != nil { // Fd lets ours block, too
		panic(err)
	}
	if _, err := net.ListenPacket("udp", l.Addr().String()); err != nil {
		panic(err)
	}
}

// plan is what a sluice does before it is killed.
type plan struct {
	Config  Config
	Service Service
	Point   string
}

// beKilled goes to a point of a rollout, says so and waits for the end.
func beKilled() error {
	var p plan
	if err := json.Unmarshal([]byte(os.Getenv("TEST_SLUICE")), &p); err != nil {
		return err
	}
	ctx := context.Background()
	t, err := Open(ctx, p.Config)
	if err != nil {
		return err
	}
	if _, err := t.StartCanary(ctx, p.Service); err != nil {
		return err
	}
	c, old := t.state.Canary, t.state.Stable
	switch p.Point {
	case "the canary is ready":
	case "half the traffic is shifted":
		err = t.Shift(5000)
	case "all traffic is shifted":
		err = t.setShare(c, 10000)
	case "the promotion is recorded":
		t.state.Stable, t.state.Canary = c, old
		err = errors.Join(t.setShare(c, 10000), t.state.write(t.run))
	default:
		err = fmt.Errorf("no such point: %s", p.Point)
	}
	if err != nil {
		return err
	}
	fmt.Println("there")
	time.Sleep(time.Minute)
	return nil
}
