package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Where the services of the host listen, in the network of the cluster.
const (
	registryAddress = Host + ":5000"
	gitAddress      = Host + ":3000"
	gatewayAddress  = Host + ":8000"
)

// serve starts the registry and the git server, which live in this process, and
// puts the image into the registry that every pod needs.
func (s *supervisor) serve(ctx context.Context) error {
	if err := os.MkdirAll(s.path("registry"), 0o755); err != nil {
		return fmt.Errorf("starting the registry: %w", err)
	}
	images := registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(s.path("registry"))),
		registry.WithReferrersSupport(true),
		registry.Logger(log.New(io.Discard, "", 0)))
	if err := listen(registryAddress, images); err != nil {
		return err
	}
	password := rand.Text()
	if err := os.WriteFile(s.path(gitPasswordFile), []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("starting the git server: %w", err)
	}
	repositories, err := newGitServer(s.state)
	if err != nil {
		return err
	}
	if err := listen(gitAddress, repositories); err != nil {
		return err
	}
	if _, err := push(ctx, s.path("pause"), registryAddress+"/pause:1", nil); err != nil {
		return err
	}
	s.say("registry and git server are ready")
	return nil
}

func listen(address string, h http.Handler) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening at %s: %w", address, err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(os.Stderr, "", log.LstdFlags)}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintf(os.Stderr, "error: serving %s: %v\n", address, err)
		}
	}()
	return nil
}
