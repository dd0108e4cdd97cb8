package hook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/admit"
)

var publicKey string

// The test binary is also the hook that the tests kill.
func TestMain(m *testing.M) {
	admitImage = judged
	if name := os.Getenv("TEST_HOOK"); name != "" {
		os.Exit(beHook(name))
	}
	raw, err := os.ReadFile("../../manifests/replicas/cosign.pub")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	publicKey = string(raw)
	code := m.Run()
	if lab.plane != nil {
		lab.plane.Stop()
	}
	_ = os.RemoveAll(lab.dir)
	os.Exit(code)
}

// judged plays registry and signatures: 6.6.6 is not signed, 4.0.4 is not there.
func judged(_ context.Context, ref string, d admit.Demands) (admit.Evidence, error) {
	switch {
	case len(d.Verifiers) == 0:
		return admit.Evidence{}, errors.New("nobody is named who may sign")
	case strings.Contains(ref, ":6.6.6@"):
		return admit.Evidence{}, &admit.Error{Problem: admit.Unsigned, Ref: ref, What: "signature", Err: errors.New("there is none")}
	case strings.Contains(ref, ":4.0.4@"):
		return admit.Evidence{}, &admit.RegistryError{Ref: ref, Err: &transport.Error{StatusCode: http.StatusNotFound}}
	case strings.Contains(ref, ":5.0.3@"):
		return admit.Evidence{}, &admit.RegistryError{Ref: ref, Err: errors.New("no route to host")}
	}
	return admit.Evidence{Digest: digestOf(ref), Name: "shop", Version: versionOf(ref), Commit: "c0ffee", Object: object1}, nil
}

// beHook is main of the process that is killed.
func beHook(name string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := Load(os.Getenv("TEST_SETTINGS"))
	if err != nil {
		fmt.Println(err)
		return exitUsage
	}
	cfg, err := apiserver.Connect(os.Getenv("TEST_KUBECONFIG"))
	if err != nil {
		fmt.Println(err)
		return exitUsage
	}
	v, err := Run(ctx, name, s, cfg, os.Stdout)
	fmt.Println(v.Sentence())
	if err == nil {
		return 0
	}
	return ExitCode(ctx, err)
}
