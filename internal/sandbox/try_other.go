//go:build !linux

package sandbox

import (
	"context"
	"errors"
)

// Try needs Linux.
func Try(context.Context, Service) (Answer, error) {
	return Answer{}, &NotAllowedError{errors.ErrUnsupported}
}

// Reexec returns false.
func Reexec() bool { return false }
