package etcd

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/etcd/etcdtest"
)

func connect(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConfigsThatAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		endpoints []string
		want      string
	}{
		"no endpoint":                 {nil, "no endpoint"},
		"no scheme":                   {[]string{"127.0.0.1:2379"}, "first path segment"},
		"another scheme":              {[]string{"unix:///run/etcd"}, "want https://host:port"},
		"a path":                      {[]string{"https://etcd:2379/v3"}, "want https://host:port"},
		"a password in the address":   {[]string{"https://a:b@etcd:2379"}, "want https://host:port"},
		"plain HTTP to somebody else": {[]string{"https://etcd:2379", "http://etcd:2379"}, "plain HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(Config{Endpoints: tt.endpoints}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAKeyIsCreatedOnce(t *testing.T) {
	s := etcdtest.Start(t)
	c := connect(t, Config{Endpoints: []string{s.URL}})
	read := Operation{Range: &RangeRequest{Key: []byte("/key")}}
	for i, want := range []bool{true, false} {
		answer, err := c.Txn(t.Context(), Create("/key", []byte("value"), read))
		if err != nil || answer.Succeeded != want {
			t.Fatalf("transaction %d: %+v, %v", i+1, answer, err)
		}
		if !want {
			if kv, err := answer.Found(); err != nil || string(kv.Value) != "value" {
				t.Errorf("found %q, %v", kv.Value, err)
			}
		} else if _, err := answer.Found(); err == nil {
			t.Error("a branch that was not carried out has found something")
		}
	}
	list, err := c.Range(t.Context(), RangeRequest{Key: []byte("/"), RangeEnd: PrefixEnd("/")})
	if err != nil || len(list.KVs) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestPassword(t *testing.T) {
	s := etcdtest.Start(t)
	admin := connect(t, Config{Endpoints: []string{s.URL}})
	for _, step := range []struct{ path, body string }{
		{"/v3/auth/user/add", `{"name":"root","password":"secret"}`},
		{"/v3/auth/role/add", `{"name":"root"}`},
		{"/v3/auth/user/grant", `{"user":"root","role":"root"}`},
		{"/v3/auth/enable", `{}`},
	} {
		if err := admin.send(t.Context(), s.URL+step.path, "", []byte(step.body), &struct{}{}); err != nil {
			t.Fatal(step.path, err)
		}
	}
	ask := RangeRequest{Key: []byte("/key")}
	c := connect(t, Config{Endpoints: []string{s.URL}, User: "root", Password: "secret"})
	if _, err := c.Range(t.Context(), ask); err != nil {
		t.Fatal("with the password:", err)
	}
	c.session.token = "of.yesterday"
	if _, err := c.Range(t.Context(), ask); err != nil {
		t.Error("with a token that is no longer known:", err)
	}
	for name, cfg := range map[string]Config{
		"no password":      {Endpoints: []string{s.URL}},
		"a wrong password": {Endpoints: []string{s.URL}, User: "root", Password: "wrong"},
	} {
		var gone *UnavailableError
		if _, err := connect(t, cfg).Range(t.Context(), ask); err == nil || errors.As(err, &gone) {
			t.Errorf("with %s: got %v, want a refusal", name, err)
		}
	}
}
