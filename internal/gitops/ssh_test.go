package gitops

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// key makes a key pair.
func key(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// serveSSH lets one key run git's own programs over SSH, and returns the address
// and a known_hosts file.
func serveSSH(t *testing.T, allowed ssh.PublicKey) (address, knownHosts string) {
	t.Helper()
	host, _ := key(t)
	conf := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(allowed.Marshal()) {
			return nil, errors.New("who are you?")
		}
		return nil, nil
	}}
	conf.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveConn(conn, conf)
		}
	}()
	h, port, _ := net.SplitHostPort(l.Addr().String())
	knownHosts = filepath.Join(t.TempDir(), "known_hosts")
	line := fmt.Sprintf("[%s]:%s %s", h, port, ssh.MarshalAuthorizedKey(host.PublicKey()))
	if err := os.WriteFile(knownHosts, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), knownHosts
}

func serveConn(conn net.Conn, conf *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, conf)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			for r := range requests {
				if r.Type != "exec" || len(r.Payload) < 4 {
					_ = r.Reply(false, nil)
					continue
				}
				_ = r.Reply(true, nil)
				program, repo, _ := strings.Cut(string(r.Payload[4:]), " ")
				cmd := exec.Command(program, strings.Trim(repo, "'"))
				cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
				in, err := cmd.StdinPipe()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(in, channel); _ = in.Close() }() // Run must not wait for its end
				status := make([]byte, 4)
				if cmd.Run() != nil {
					binary.BigEndian.PutUint32(status, 128)
				}
				_, _ = channel.SendRequest("exit-status", false, status)
				return
			}
		}()
	}
}

func TestRevertOverSSH(t *testing.T) {
	s := serve(t)
	c := released(s)
	signer, private := key(t)
	_, stranger := key(t)
	address, known := serveSSH(t, signer.PublicKey())
	otherAddress, _ := serveSSH(t, signer.PublicKey())
	repo := Repo{URL: "ssh://git@" + address + s.dir, Branch: "main", Path: "deploy/shop", Timeout: time.Minute, Auth: Auth{SSHKey: private, KnownHosts: known}}

	wrong := repo
	wrong.Auth.SSHKey = stranger
	var denied *AuthError
	if _, err := Revert(t.Context(), wrong, c); !errors.As(err, &denied) || !denied.Given {
		t.Errorf("a stranger's key: %v", err)
	}
	wrong = repo
	wrong.URL = "ssh://git@" + otherAddress + s.dir
	var unknown *UnreachableError
	if _, err := Revert(t.Context(), wrong, c); !errors.As(err, &unknown) || unknown.Temporary() || !strings.Contains(unknown.Hint(), "known_hosts") {
		t.Errorf("a server nobody knows: %v", err)
	}
	wrong = repo
	wrong.URL += "x"
	var gone *GoneError
	if _, err := Revert(t.Context(), wrong, c); !errors.As(err, &gone) {
		t.Errorf("another repository: %v", err)
	}
	if _, err := Revert(t.Context(), repo, c); err != nil {
		t.Fatal(err)
	}
	s.reverted("main", c.Bad, c)
}
