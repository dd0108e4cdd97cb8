// Command ship makes the images that Sluice itself needs in a cluster, without
// Docker: sluice-argo (the hooks) and sluice-probe (the DaemonSet).
//
// Each holds one static, stripped binary and the certificate authorities of this
// machine, and more if they are named. The same source and authorities give the same digests. They go into an
// OCI image layout and, if one is named, to a registry; what was made is printed
// as JSON.
//
//	go run ./internal/ship                                            # into out/images
//	go run ./internal/ship -registry registry.example.com/team        # and push team/sluice-argo, team/sluice-probe
//	go run ./internal/ship -platforms linux/amd64,linux/arm64 -version v1.0.0
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/sluice-cd/sluice/internal/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := shipment{most: 80 << 20}
	var platforms, only string
	flag.StringVar(&s.dir, "C", ".", "folder of the repository")
	flag.StringVar(&s.out, "o", "out/images", "folder of the OCI image layout")
	flag.StringVar(&s.version, "version", "dev", "tag of the images")
	flag.StringVar(&platforms, "platforms", "linux/"+runtime.GOARCH, "platforms, separated by commas")
	flag.StringVar(&s.registry, "registry", "", "push to HOST/PATH/sluice-argo and HOST/PATH/sluice-probe")
	flag.BoolVar(&s.insecure, "insecure", false, "the registry is on this machine and speaks plain HTTP")
	flag.StringVar(&s.ca, "ca", "", "PEM file with certificate authorities that the images trust, besides those of this machine: for a registry or a git server of your own")
	flag.StringVar(&only, "only", "", "make just this one: "+strings.Join(names(), ", "))
	flag.Parse()
	made, err := s.parse(platforms, only).run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "ship: %v\n", err)
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) && hinted.Hint() != "" {
			fmt.Fprintf(os.Stderr, "ship: hint: %s\n", hinted.Hint())
		}
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	_ = out.Encode(made)
}

// parse reads the two flags that are lists; what is wrong with them is found by
// run.
func (s shipment) parse(platforms, only string) shipment {
	for text := range strings.SplitSeq(platforms, ",") {
		p, err := build.ParsePlatform(strings.TrimSpace(text))
		s.wrong = errors.Join(s.wrong, err)
		s.platforms = append(s.platforms, p)
	}
	for _, p := range programs {
		if only == "" || only == p.name {
			s.programs = append(s.programs, p)
		}
	}
	if len(s.programs) == 0 {
		s.wrong = errors.Join(s.wrong, fmt.Errorf("unknown image %q (known: %s)", only, strings.Join(names(), ", ")))
	}
	return s
}
