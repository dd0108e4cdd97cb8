package wire

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// FormatError means that bytes are no encoded Status.
type FormatError struct{ Where, What string }

func (e *FormatError) Error() string {
	return fmt.Sprintf("not a snapshot of a probe: %s: %s", e.Where, e.What)
}

// ResetError means that two readings are not of the same counters.
type ResetError struct{ What string }

func (e *ResetError) Error() string { return "the probe was started anew: " + e.What }

// Encode appends a Status to dst.
func Encode(dst []byte, s *Status) []byte { return dst }

// Decode reads what Encode wrote. The error is a *FormatError.
func Decode(b []byte) (Status, error) { return Status{}, errors.ErrUnsupported }

// MarshalJSON writes the readable form.
func (s Status) MarshalJSON() ([]byte, error) { return nil, errors.ErrUnsupported }

// UnmarshalJSON reads it.
func (s *Status) UnmarshalJSON(data []byte) error { return errors.ErrUnsupported }

// Delta is what was counted between two readings.
func Delta(prev, now *Status) (Status, error) { return Status{}, errors.ErrUnsupported }

// Merge adds what a node counted between two encoded readings to the sums that key names.
func Merge[K comparable](into map[K]*probe.Counts, prev, now []byte, key func(node string, w probe.Workload) (K, bool)) error {
	return errors.ErrUnsupported
}

// ByAddress is a key for Merge: the local address and port.
func ByAddress(_ string, w probe.Workload) (netip.AddrPort, bool) { return w.Addr, !w.Outgoing() }

// ByCgroup is a key for Merge: the control group of one node.
func ByCgroup(_ string, w probe.Workload) (uint64, bool) { return w.Cgroup, !w.Outgoing() }

// Config of a Client; the zero value works for "unix:PATH".
type Config struct {
	Certificate, Key string // PEM files of the client's certificate; "": none
	CA               string // PEM file of the authorities that sign servers; "": those of the system
	Server           string // SPIFFE id or DNS name that the server must have; "": the target's host
	Timeout          time.Duration
}

// Client talks to one sluice-probe.
type Client struct{}

// Dial prepares a client for "unix:PATH", "https://HOST:PORT" or "http://HOST:PORT".
func Dial(target string, c Config) (*Client, error) { return nil, errors.ErrUnsupported }

// Encoded returns the snapshot as it came.
func (c *Client) Encoded(ctx context.Context) ([]byte, error) { return nil, errors.ErrUnsupported }

// Snapshot returns what the probe has counted.
func (c *Client) Snapshot(ctx context.Context) (Status, error) {
	return Status{}, errors.ErrUnsupported
}

// Objects returns what is loaded and the history.
func (c *Client) Objects(ctx context.Context) (Objects, error) {
	return Objects{}, errors.ErrUnsupported
}

// Swap puts another object in the place of the running one.
func (c *Client) Swap(ctx context.Context, object, bundle []byte) (SwapResult, error) {
	return SwapResult{}, errors.ErrUnsupported
}

// Rollback goes back to the last good object.
func (c *Client) Rollback(ctx context.Context) (SwapResult, error) {
	return SwapResult{}, errors.ErrUnsupported
}

// Healthy returns nil if the probe counts and is the one that was verified.
func (c *Client) Healthy(ctx context.Context) error { return errors.ErrUnsupported }

// Close lets go of connections.
func (c *Client) Close() error { return nil }
