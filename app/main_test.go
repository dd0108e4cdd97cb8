package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// shop is a service that runs in this process, as main would run it.
type shop struct {
	addr string
	stop context.CancelFunc // what SIGTERM does
	code chan int           // receives the exit code

	mu     sync.Mutex
	stderr bytes.Buffer
}

// launch starts a shop on a free loopback port and stops it when t ends.
func launch(t *testing.T, args ...string) *shop {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &shop{stop: cancel, code: make(chan int, 1)}
	pr, pw := io.Pipe()
	args = append([]string{"-listen", "127.0.0.1:0", "-lame-duck", "0s"}, args...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.code <- run(ctx, args, os.Getenv, io.Discard, pw)
		pw.Close()
	}()
	first, addr := bufio.NewScanner(pr), make(chan string, 1)
	go func() {
		for first.Scan() {
			if _, rest, ok := strings.Cut(first.Text(), "listening on "); ok {
				addr <- strings.Fields(rest)[0]
			}
			s.mu.Lock()
			s.stderr.WriteString(first.Text() + "\n")
			s.mu.Unlock()
		}
		close(addr)
	}()
	t.Cleanup(func() { cancel(); <-done })
	if s.addr = <-addr; s.addr == "" {
		t.Fatalf("the service did not start: %s", s.errors())
	}
	return s
}

// wait returns the exit code once the service has left.
func (s *shop) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.code:
		return code
	case <-time.After(20 * time.Second):
		t.Fatal("the service does not leave")
		return -1
	}
}

func (s *shop) errors() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.String()
}

// client returns an HTTP client of t's own that speaks one protocol.
func client(t *testing.T, h2c bool) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2c)
	protocols.SetUnencryptedHTTP2(h2c)
	transport := &http.Transport{Protocols: protocols, MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// dial returns a gRPC connection that t closes.
func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func callWork(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	out := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, rpcWork, new(emptypb.Empty), out)
	return out.Value, err
}

// get returns status and body.
func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRunEndsWithOneLineAndACode(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	env := map[string]string{}
	for name, tt := range map[string]struct {
		args, env      []string
		code           int
		stdout, stderr string // what each has to contain
	}{
		"a flag with a bad value":     {args: []string{"-error-ratio", "7"}, code: 2, stderr: `invalid value "7" for flag -error-ratio: want a number from 0 to 1`},
		"a variable with a bad value": {env: []string{"SHOP_LATENCY", "5"}, code: 2, stderr: `invalid value "5" for variable SHOP_LATENCY: want a duration with its unit`},
		"a port in use":               {args: []string{"-listen", taken.Addr().String()}, code: 1, stderr: "address already in use: choose another one with -listen or SHOP_LISTEN"},
		"an address of somebody else": {args: []string{"-listen", "192.0.2.1:80"}, code: 1, stderr: "listen tcp 192.0.2.1:80"},
		"an endpoint without scheme":  {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"}, code: 2, stderr: `invalid value "localhost:4317" for variable OTEL_EXPORTER_OTLP_ENDPOINT: want an http or https address`},
		"the version":                 {args: []string{"-version"}, stdout: "shop " + releaseVersion() + " ("},
		"the help":                    {args: []string{"-help"}, stdout: "SHOP_TAIL_FACTOR"},
	} {
		t.Run(name, func(t *testing.T) {
			clear(env)
			if tt.env != nil {
				env[tt.env[0]] = tt.env[1]
			}
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tt.args, func(k string) string { return env[k] }, &stdout, &stderr); code != tt.code {
				t.Errorf("exit code %d, want %d; stderr: %s", code, tt.code, &stderr)
			}
			if !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("stdout %q, want %q; stderr %q, want %q", &stdout, tt.stdout, &stderr, tt.stderr)
			}
			if want := min(tt.code, 1); strings.Count(stderr.String(), "\n") != want {
				t.Errorf("stderr %q, want %d lines", &stderr, want)
			}
		})
	}
}

// TestBinary tries what only a process has: the stamped version, the
// environment, signals.
func TestBinary(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM to send on Windows")
	}
	bin := filepath.Join(t.TempDir(), "shop")
	build := exec.Command("go", "build", "-tags", "grpcnotrace", "-ldflags", "-X main.version=v9.8.7", "-o", bin, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	if out, err := exec.Command(bin, "-version").Output(); err != nil || !strings.HasPrefix(string(out), "shop v9.8.7 (") {
		t.Errorf("-version printed %q, %v; want shop v9.8.7 (…)", out, err)
	}

	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), "SHOP_LISTEN=127.0.0.1:0", "SHOP_LAME_DUCK=50ms", "SHOP_LATENCY=0s")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(line, "listening on ")
	addr := strings.Fields(rest)[0]
	if _, body := get(t, client(t, false), "http://"+addr+"/work"); body != `{"service":"shop","version":"v9.8.7"}`+"\n" {
		t.Errorf("/work answered %q", body)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit code 0", err)
	}
}
