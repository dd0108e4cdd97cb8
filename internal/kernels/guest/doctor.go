package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-cd/sluice/internal/doctor"
)

// oldest is the oldest kernel that Sluice runs on.
const oldest = "5.10"

// doctorTrials are those of sluice doctor that lie with the kernel; programs
// such as a compiler are not in the machine.
func doctorTrials() []trial {
	return []trial{{"doctor: every check of the kernel", oldest, func(ctx context.Context) error {
		var errs []error
		found := 0
		for _, c := range doctor.Run(ctx, doctor.Options{OutDir: "/tmp/out"}) {
			if tools[c.Name] {
				continue
			}
			found++
			if c.Status != doctor.OK {
				errs = append(errs, fmt.Errorf("%s is %s: %s", c.Name, c.Status, c.What))
			}
		}
		if found == 0 {
			errs = append(errs, errors.New("nothing was checked"))
		}
		return errors.Join(errs...)
	}}}
}

var tools = map[string]bool{"go": true, "git": true, "upx": true, "qemu-user": true, "clang-19": true, "disk": true}
