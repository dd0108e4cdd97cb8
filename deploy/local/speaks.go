package local

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// SpeaksTLS reports whether the version answers a TLS handshake on its own port.
// Nothing is sent over the connection and no certificate is believed.
func (a *Arm) SpeaksTLS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, addr := range reachable(a.Own) {
		d := tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // only asks whether TLS is spoken
		if conn, err := d.DialContext(ctx, "tcp", addr.String()); err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}
