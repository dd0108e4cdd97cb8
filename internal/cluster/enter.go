package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
)

// Config returns the configuration of an administrator that works from outside
// of the cluster's network.
func (i *Info) Config() (*rest.Config, error) {
	cfg, err := Config(i.Kubeconfig)
	if err == nil {
		cfg.Dial = i.DialContext
	}
	return cfg, err
}

// DialContext connects to an IP address and port in the network of the cluster:
// of the host, a node, a pod or a service. It needs root.
func (i *Info) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	onOwnThread(func() {
		if err := i.join("net"); err != nil {
			done <- result{nil, err}
			return
		}
		conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
		done <- result{conn, err}
	})
	r := <-done
	return r.conn, r.err
}

// onOwnThread runs f on a thread that is not given back: it ends with f, in
// namespaces where nobody else should find himself.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		// The first thread of a process never ends: keep it until another has begun.
		defer runtime.UnlockOSThread()
		begun := make(chan struct{})
		onOwnThread(func() {
			close(begun)
			f()
		})
		<-begun
	}()
}

// RestartAPI kills kube-apiserver, as a crash would, and returns when it answers
// again.
func (i *Info) RestartAPI(ctx context.Context) error {
	s := state(i.Dir)
	if !s.alive(i.PID) {
		return ErrDown
	}
	var before, now int
	_ = s.load(restartsFile, &before) // there is none before the first time
	if err := syscall.Kill(i.PID, syscall.SIGHUP); err != nil {
		return fmt.Errorf("restarting the API server: %w", err)
	}
	err := until(ctx, time.Minute, func() error {
		if _ = s.load(restartsFile, &now); now == before {
			return errors.New("it is not back")
		}
		return nil
	}, func(error) bool { return true })
	if err != nil {
		return fmt.Errorf("restarting the API server: %w", err)
	}
	return nil
}

// join moves the calling thread into namespaces of the cluster's host. Those of
// processes ("pid_for_children") matter for children only.
func (i *Info) join(namespaces ...string) error {
	if !state(i.Dir).alive(i.PID) {
		return ErrDown
	}
	flags := map[string]int{"net": unix.CLONE_NEWNET, "mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID}
	var files []*os.File
	for _, ns := range namespaces { // open all first: the names mean something else after
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", i.PID, ns))
		if err != nil {
			return fmt.Errorf("entering cluster %s: %w", i.Name, err)
		}
		defer f.Close()
		files = append(files, f)
	}
	for n, f := range files {
		if err := unix.Setns(int(f.Fd()), flags[namespaces[n]]); err != nil {
			return fmt.Errorf("entering cluster %s (%s): %w", i.Name, namespaces[n], err)
		}
	}
	return nil
}

// Run runs a command on the cluster's host: in its network, where every address
// of [Info], every pod and every service can be reached, among its processes,
// and with kubectl, kustomize and the administrator's KUBECONFIG. The file
// system is the machine's, but for /run, /sys and /proc. It ends with the
// cluster or with ctx; the error is an [exec.ExitError] if it failed.
func (i *Info) Run(ctx context.Context, cmd *exec.Cmd) error {
	if !state(i.Dir).alive(i.PID) {
		return ErrDown
	}
	cmd.Env = append(orEnvironment(cmd.Env),
		"KUBECONFIG="+i.Kubeconfig, "PATH="+state(i.Dir).path("bin")+":"+os.Getenv("PATH"),
		"SLUICE_CLUSTER="+i.Name)
	group, err := i.execGroup()
	if err != nil {
		return err
	}
	defer group.Close()
	wd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("running a command in cluster %s: %w", i.Name, err)
	}
	cmd.Dir = orDefault(cmd.Dir, wd)
	started := make(chan error, 1)
	ended := make(chan struct{})
	onOwnThread(func() {
		started <- i.startInside(cmd, int(group.Fd()))
		<-ended
	})
	defer close(ended)
	if err := <-started; err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	return cmd.Wait()
}

// startInside starts the command from a thread in the cluster's namespaces.
func (i *Info) startInside(cmd *exec.Cmd, group int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // or the mounts cannot be changed
		return fmt.Errorf("entering cluster %s: %w", i.Name, err)
	}
	if err := i.join("net", "pid", "mnt"); err != nil {
		return err
	}
	if !strings.Contains(cmd.Path, "/") || cmd.Err != nil {
		path, err := lookIn(cmd.Args[0], state(i.Dir).path("bin"))
		if err != nil {
			return err
		}
		cmd.Path, cmd.Err = path, nil
	}
	// No signal at our death: a child in another process namespace cannot see
	// whether we are alive already, and takes us for dead.
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: group}
	return cmd.Start()
}

// lookIn looks for a program in a folder, then in PATH.
func lookIn(name, dir string) (string, error) {
	if path, err := exec.LookPath(dir + "/" + name); err == nil {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("running %s: %w", name, err)
	}
	return path, nil
}

// execGroup is the group of version 2 that commands are in, so that Down finds
// them. It is not below a node: no probe of a node sees them.
func (i *Info) execGroup() (*os.File, error) {
	groups, err := state(i.Dir).groups()
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if _, err := os.Stat(group + "/cgroup.events"); err != nil {
			continue // version 1 has no such file
		}
		dir := group + "/exec"
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("making a control group: %w", err)
		}
		f, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("opening a control group: %w", err)
		}
		return f, nil
	}
	return nil, errors.New("no control group of version 2")
}

func orEnvironment(env []string) []string {
	if env == nil {
		return os.Environ()
	}
	return env
}

func replace(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
