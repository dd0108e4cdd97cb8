package main

import (
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseOptions(t *testing.T) {
	defaults := options{
		Listen: ":8080", LameDuck: 2 * time.Second, DrainTimeout: 10 * time.Second,
		Faults: faults{Latency: 2 * time.Millisecond, LatencySigma: 0.3, TailFactor: 10},
	}
	with := func(change func(*options)) options {
		o := defaults
		change(&o)
		return o
	}
	for name, tt := range map[string]struct {
		args []string
		env  map[string]string
		want options
	}{
		"nothing given is the documented default": {want: defaults},
		"a variable replaces the default": {
			env:  map[string]string{"SHOP_LATENCY": "4ms"},
			want: with(func(o *options) { o.Faults.Latency = 4 * time.Millisecond }),
		},
		"a flag beats its variable": {
			args: []string{"-latency=8ms"}, env: map[string]string{"SHOP_LATENCY": "4ms"},
			want: with(func(o *options) { o.Faults.Latency = 8 * time.Millisecond }),
		},
		"a flag beats even a wrong variable": {
			args: []string{"-latency=8ms"}, env: map[string]string{"SHOP_LATENCY": "soon"},
			want: with(func(o *options) { o.Faults.Latency = 8 * time.Millisecond }),
		},
		"what Kubernetes sets for a Service named shop is left alone": {
			env:  map[string]string{"SHOP_PORT": "tcp://10.0.0.1:80", "SHOP_SERVICE_HOST": "10.0.0.1"},
			want: defaults,
		},
		"every knob has a flag": {
			args: strings.Fields("-listen [::1]:0 -lame-duck 1s -drain-timeout 3s -latency 0s -latency-sigma 1 -extra-latency 7ms " +
				"-tail-ratio 0.1 -tail-factor 20 -error-ratio 1 -leak-bytes 4096 -cpu 1ms -version"),
			want: options{
				Listen: "[::1]:0", LameDuck: time.Second, DrainTimeout: 3 * time.Second,
				Faults: faults{
					LatencySigma: 1, ExtraLatency: 7 * time.Millisecond, TailRatio: 0.1, TailFactor: 20,
					ErrorRatio: 1, LeakBytes: 4096, CPU: time.Millisecond,
				},
				ShowVersion: true,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseOptions(tt.args, func(k string) string { return tt.env[k] })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseOptionsSaysWhatWouldBeRight(t *testing.T) {
	for name, tt := range map[string]struct{ arg, want string }{
		"a port alone":             {"-listen=80", `"80" for flag -listen: want [host]:port`},
		"a port too high":          {"-listen=:70000", `":70000" for flag -listen: want [host]:port with a port from 0 to 65535`},
		"a duration without unit":  {"-lame-duck=5", `"5" for flag -lame-duck: want a duration with its unit`},
		"a negative duration":      {"-cpu=-1ms", `"-1ms" for flag -cpu: want a duration`},
		"a duration beyond reason": {"-drain-timeout=2h", `"2h" for flag -drain-timeout: want a duration with its unit from 0s to 1h`},
		"a percentage":             {"-error-ratio=5%", `"5%" for flag -error-ratio: want a number from 0 to 1`},
		"not a number":             {"-tail-ratio=NaN", `"NaN" for flag -tail-ratio: want a number from 0 to 1`},
		"a factor that speeds up":  {"-tail-factor=0.5", `"0.5" for flag -tail-factor: want a number from 1 to 1000`},
		"a negative size":          {"-leak-bytes=-1", `"-1" for flag -leak-bytes: want a whole number of bytes`},
		"a size with a unit":       {"-leak-bytes=1MB", `"1MB" for flag -leak-bytes: want a whole number of bytes`},
		"a flag that is not there": {"-latncy=1ms", `-latncy (see shop -help)`},
		"a word":                   {"serve", `unexpected argument "serve": shop takes flags only, see shop -help`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions([]string{tt.arg}, func(string) string { return "" })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %s", err, tt.want)
			}
		})
	}
}

// FuzzParseOptions: whatever somebody types is either refused or within bounds.
func FuzzParseOptions(f *testing.F) {
	f.Add("-latency", "2ms", "0.5")
	f.Add("-listen", ":http", "1e400")
	f.Add("-leak-bytes", "0x10", "-0")
	f.Add("-h", "", "")
	f.Fuzz(func(t *testing.T, name, value, ratio string) {
		getenv := func(k string) string { return map[string]string{"SHOP_ERROR_RATIO": ratio}[k] }
		o, err := parseOptions([]string{name + "=" + value}, getenv)
		if err != nil {
			if !errors.Is(err, flag.ErrHelp) && o != (options{}) {
				t.Errorf("options %+v beside the error %v", o, err)
			}
			return
		}
		q := o.Faults
		if !(q.ErrorRatio >= 0 && q.ErrorRatio <= 1) || !(q.TailRatio >= 0 && q.TailRatio <= 1) ||
			q.Latency < 0 || q.Latency > time.Hour || q.LeakBytes < 0 || q.LeakBytes > 1<<30 {
			t.Errorf("%s=%s and ratio %s gave %+v", name, value, ratio, q)
		}
	})
}
