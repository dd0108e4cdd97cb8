package sandbox

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4026 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4027 1 0000000000000000 20 4 0 10 -1
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4028 1 0000000000000000 100 0 0 10 0
`

const table6 = `  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A
   2: 0000000000000000FFFF00000100007F:0052 00000000000000000000000000000000:0000 0A
`

func TestParseListeners(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want []string
		err  string
	}{
		"IPv4, without established connections": {in: table, want: []string{"127.0.0.1:8080", "0.0.0.0:80"}},
		"IPv6, with a mapped address":           {in: table6, want: []string{"[::]:8080", "[::1]:81", "127.0.0.1:82"}},
		"only the heading":                      {in: "  sl  local_address\n"},
		"nothing":                               {},
		"a line that is cut off":                {in: "head\n   0: 0100007F:1F90 00\n", err: "has 3 fields"},
		"an address of no known length":         {in: "head\n0: 01007F:1F90 0 0A\n", err: `address "01007F:1F90"`},
		"no port":                               {in: "head\n0: 0100007F 0 0A\n", err: "port of"},
	} {
		t.Run(name, func(t *testing.T) {
			addrs, err := parseListeners(strings.NewReader(tt.in))
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			var got []string
			for _, a := range addrs {
				got = append(got, a.String())
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParseListeners(f *testing.F) {
	f.Add(table)
	f.Add(table6)
	f.Fuzz(func(t *testing.T, in string) {
		addrs, _ := parseListeners(strings.NewReader(in))
		for _, a := range addrs {
			if !a.IsValid() {
				t.Errorf("invalid address %v", a)
			}
		}
	})
}

func TestChoose(t *testing.T) {
	addrs := func(list ...string) (out []netip.AddrPort) {
		for _, s := range list {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	for name, tt := range map[string]struct {
		all  []netip.AddrPort
		port int
		want []netip.AddrPort
	}{
		"every address is dialled on loopback": {addrs("0.0.0.0:80", "[::]:81"), 0, addrs("127.0.0.1:80", "[::1]:81")},
		"a loopback address as it is":          {addrs("127.0.0.5:80"), 0, addrs("127.0.0.5:80")},
		"only the named port":                  {addrs("0.0.0.0:80", "[::]:81"), 81, addrs("[::1]:81")},
		"a port nobody has":                    {addrs("0.0.0.0:80"), 81, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := choose(tt.all, tt.port)
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	if diff := cmp.Diff([]int{80, 81}, ports(addrs("[::]:81", "0.0.0.0:80", "[::]:80"))); diff != "" {
		t.Error(diff)
	}
}

func TestWordsKeepTheLastLines(t *testing.T) {
	var w words
	for range 5000 {
		w.Write([]byte("noise\n\n"))
	}
	w.Write([]byte("almost\r\nthe end"))
	got := w.last()
	if len(got) != keptLines || got[8] != "almost" || got[9] != "the end" {
		t.Errorf("got %q", got)
	}
	if len(w.buf) > keptBytes {
		t.Errorf("kept %d bytes", len(w.buf))
	}
}
