package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluice-cd/sluice/internal/wire"
)

// certs FILE ID makes a certificate FILE.crt with the key FILE.key that vouches
// for itself, for 127.0.0.1 and a SPIFFE id.
func certs(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	id, err := url.Parse(args[1])
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, URIs: []*url.URL{id},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for name, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: raw}} {
		file := ts.MkAbs(args[0]) + name
		ts.Check(os.WriteFile(file+".new", pem.EncodeToMemory(block), 0o600))
		ts.Check(os.Rename(file+".new", file)) // as a renewal does it
	}
}

// secure FILE swap OBJECT BUNDLE | read asks the daemon over TLS as the client
// with the certificate FILE.crt.
func secure(ts *testscript.TestScript, neg bool, args []string) {
	var target string
	eventually(ts, "a TCP listener", func() bool {
		_, rest, found := strings.Cut(ts.ReadFile("log"), "on=tcp:")
		target, _, _ = strings.Cut(rest, "\n")
		return found
	})
	file := ts.MkAbs(args[0])
	c, err := wire.Dial("https://"+target, wire.Config{Certificate: file + ".crt", Key: file + ".key", Authorities: ts.MkAbs("server.crt")})
	ts.Check(err)
	defer c.Close()
	if args[1] == "swap" {
		_, err = c.Swap(context.Background(), []byte(ts.ReadFile(args[2])), []byte(ts.ReadFile(args[3])))
	} else {
		_, err = c.Snapshot(context.Background())
	}
	if !neg {
		ts.Check(err)
	} else if err == nil {
		ts.Fatalf("%v was not refused", args)
	}
}
