package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
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
	secure, err := s.registryTLS()
	if err != nil {
		return err
	}
	if err := listen(registryAddress, images, secure); err != nil {
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
	if err := listen(gitAddress, repositories, nil); err != nil {
		return err
	}
	transport, err := trusting(s.authority.file("ca.crt"))
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	if _, err := push(ctx, s.path("pause"), registryAddress+"/pause:1", transport); err != nil {
		return err
	}
	s.say("registry and git server are ready")
	return nil
}

// registryTLS makes the certificate of the registry: who asks it about signatures
// takes no answer in clear from another machine.
func (s *supervisor) registryTLS() (*tls.Config, error) {
	if err := s.authority.issueFiles("registry", "registry", nil, []string{Host}); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(s.authority.file("registry.crt"), s.authority.file("registry.key"))
	if err != nil {
		return nil, fmt.Errorf("starting the registry: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// listen serves an address, in clear if secure is nil.
func listen(address string, h http.Handler, secure *tls.Config) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening at %s: %w", address, err)
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(os.Stderr, "", log.LstdFlags)}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintf(os.Stderr, "error: serving %s: %v\n", address, err)
		}
	}()
	return nil
}
