package apiserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: jane, user: {token: secret}}]
contexts: [{name: lab, context: {cluster: lab, user: jane}}]
current-context: lab
`

func TestConnect(t *testing.T) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, broken := write("good", kubeconfig), write("broken", "a: [b")
	if cfg, err := Connect(good); err != nil || cfg.Host == "" {
		t.Errorf("a kubeconfig: %v", err)
	}
	t.Setenv("KUBECONFIG", good)
	if cfg, err := Connect(""); err != nil || cfg.Host == "" {
		t.Errorf("$KUBECONFIG: %v", err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"", broken, broken + "er"} {
		var e *ConnectError
		if _, err := Connect(name); !errors.As(err, &e) || e.Hint() == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
