package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAForwardedAddressAnswersLikeTheOther(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	address, err := forward(ctx, (&net.Dialer{}).DialContext, server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %s", res.Status)
	}
	cancel()
	for range 100 { // the listener closes a moment later
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		conn.Close()
	}
	t.Error("it forwards although its time is over")
}
