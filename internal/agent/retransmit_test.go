package agent

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// TestASurgeOfRetransmitsIsRolledBack swaps in another object, and then one packet
// in four to the clients is lost: a program that drops them stands for what a bad
// object could do.
func TestASurgeOfRetransmitsIsRolledBack(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Probation = time.Hour })
	clients := l.load()
	l.eventually("a baseline", func() bool { return l.agent.sent().Sent >= 2000 })
	if s := l.agent.sent(); s.Again > s.Sent/100 {
		t.Fatalf("the baseline is %+v", s)
	}
	object := other(t)
	if _, err := l.client.Swap(t.Context(), object, l.sign(object)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if got := l.snapshot().Loaded.Digest; got != bpf.DigestOf(object) {
		t.Fatalf("%s runs without any surge", got)
	}
	lossy := skb(
		t, ebpf.AttachCGroupInetIngress,
		asm.FnGetPrandomU32.Call(),
		asm.And.Imm(asm.R0, 3),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Imm(asm.R0, 1),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("drop"),
	)
	drops, err := link.AttachCgroup(link.CgroupOptions{Path: clients, Attach: ebpf.AttachCGroupInetIngress, Program: lossy})
	if err != nil {
		t.Fatal(err)
	}
	defer drops.Close()
	begin := time.Now()
	l.eventually("the rollback", func() bool { return l.snapshot().Loaded.Digest == BuiltIn().Digest() })
	t.Logf("rolled back %v after the first loss", time.Since(begin).Round(time.Millisecond))
	if !strings.Contains(l.log.String(), "retransmits surged to") {
		t.Error("the log does not say why")
	}
	if s := l.snapshot(); s.Mismatch != "" || s.Swaps != 2 {
		t.Errorf("%d swaps, mismatch %q", s.Swaps, s.Mismatch)
	}
	l.eventually("a mark in the history", func() bool { return strings.Contains(l.entry(bpf.DigestOf(object)).Bad, "retransmits surged") })
}

// sent adds up the baseline.
func (a *Agent) sent() (sum Segments) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.traffic.intervals() {
		sum.Sent += s.Sent
		sum.Again += s.Again
	}
	return sum
}

// load asks the service all the time, in a process and a control group of its
// own, which it returns: what is dropped there on its way in is lost for TCP.
func (l *lab) load() (group string) {
	l.t.Helper()
	group = testenv.TempCgroup(l.t)
	l.child(group, clientEnv+"="+l.url)
	return group
}

// ask is what the child of load does.
func ask(url string) {
	for range 8 {
		go func() {
			client := http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			for {
				if resp, err := client.Get(url); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	fmt.Println("asking")
	select {}
}
