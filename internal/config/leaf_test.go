package config

import (
	"encoding"
	"regexp"
	"testing"
	"time"
)

// TestLeaves reads texts, writes the values back and compares; want "" means refused with the message in fault.
func TestLeaves(t *testing.T) {
	for name, tt := range map[string]struct {
		leaf        encoding.TextUnmarshaler
		text        string
		want, fault string
	}{
		"a duration":                       {new(Duration), "90s", "1m30s", ""},
		"a duration without zero units":    {new(Duration), "60m", "1h", ""},
		"a duration of minutes":            {new(Duration), "5m", "5m", ""},
		"a duration of nothing":            {new(Duration), "0s", "0s", ""},
		"a mixed duration":                 {new(Duration), "1h30m0.5s", "1h30m0.5s", ""},
		"a duration without unit":          {new(Duration), "5", "", "5 has no unit (write 5s or 5ms)"},
		"a negative duration":              {new(Duration), "-5s", "", `"-5s" is not a duration (write 250ms, 5s, 2m or 1h30m)`},
		"a duration in words":              {new(Duration), "5 sec", "", `"5 sec" is not a duration (write 250ms, 5s, 2m or 1h30m)`},
		"a duration of days":               {new(Duration), "1d", "", `"1d" is not a duration (write 250ms, 5s, 2m or 1h30m)`},
		"a duration of centuries":          {new(Duration), "9999999h", "", `"9999999h" is too long for a duration`},
		"a size in binary units":           {new(Size), "20MiB", "20MiB", ""},
		"a size with a fraction":           {new(Size), "1.5GiB", "1536MiB", ""},
		"a size in decimal units":          {new(Size), "20MB", "20000000B", ""},
		"a size in bytes":                  {new(Size), "0B", "0B", ""},
		"a size without unit":              {new(Size), "20", "", "20 has no unit (write 20MiB or 20B)"},
		"a size with half a unit":          {new(Size), "20M", "", `"20M" is not a size (write 512KiB, 20MiB or 1.5GB)`},
		"a size of too many digits":        {new(Size), "99999999999999TiB", "", `"99999999999999TiB" is too large for a size`},
		"a share in percent":               {new(Ratio), "10%", "10%", ""},
		"a share as a number":              {new(Ratio), "0.1", "10%", ""},
		"a share of everything":            {new(Ratio), "1", "100%", ""},
		"a small share":                    {new(Ratio), "0.0001%", "0.0001%", ""},
		"a share in powers of ten":         {new(Ratio), "1e-3", "0.1%", ""},
		"a share that is no binary number": {new(Ratio), "0.7%", "0.7%", ""},
		"a number that should be percent":  {new(Ratio), "10", "", "10 is not a share between 0 and 1 (write 10%?)"},
		"a negative share":                 {new(Ratio), "-1%", "", `"-1%" is not a share (write 10% or 0.1)`},
		"a hexadecimal share":              {new(Ratio), "0x1p-2", "", `"0x1p-2" is not a share (write 10% or 0.1)`},
		"an address":                       {new(Address), "127.0.0.1:8080", "127.0.0.1:8080", ""},
		"an IPv6 address":                  {new(Address), "[::1]:80", "[::1]:80", ""},
		"every address":                    {new(Address), ":8080", "[::]:8080", ""},
		"a port without address":           {new(Address), "8080", "", "8080 has no address (write 127.0.0.1:8080, or :8080 for every address)"},
		"a name for an address":            {new(Address), "localhost:80", "", `"localhost:80" is not an address and a port in numbers (write 127.0.0.1:8080, [::1]:8080 or :8080)`},
		"a port out of range":              {new(Address), "1.2.3.4:70000", "", `"1.2.3.4:70000" is not an address and a port in numbers (write 127.0.0.1:8080, [::1]:8080 or :8080)`},
		"port 0":                           {new(Address), ":0", "", "port 0 would be another port each time (write 127.0.0.1:8080)"},
	} {
		t.Run(name, func(t *testing.T) {
			switch err := tt.leaf.UnmarshalText([]byte(tt.text)); {
			case tt.want == "" && (err == nil || err.Error() != tt.fault):
				t.Fatalf("got %v, want %s", err, tt.fault)
			case tt.want != "" && err != nil:
				t.Fatal(err)
			case err != nil:
				return
			}
			text, err := tt.leaf.(encoding.TextMarshaler).MarshalText()
			if err != nil || string(text) != tt.want {
				t.Errorf("written as %s (%v), want %s", text, err, tt.want)
			}
		})
	}
}

func TestLeafValues(t *testing.T) {
	if got := Duration(time.Minute).Std(); got != time.Minute {
		t.Errorf("Std() = %v", got)
	}
	if got := Size(20 << 20).Bytes(); got != 20<<20 {
		t.Errorf("Bytes() = %d", got)
	}
	var weight Ratio
	if err := weight.UnmarshalText([]byte("12.34%")); err != nil || weight.Float() != 0.1234 {
		t.Errorf("Float() = %v, %v", weight.Float(), err)
	}
	var every Address
	if err := every.UnmarshalText([]byte(":80")); err != nil || !every.AddrPort().Addr().IsUnspecified() {
		t.Errorf("AddrPort() = %v, %v", every.AddrPort(), err)
	}
}

// TestLeafPatterns holds the patterns of the schema against the parsers.
func TestLeafPatterns(t *testing.T) {
	for pattern, tt := range map[string]struct{ good, bad []string }{
		durationPattern: {[]string{"250ms", "1h30m", "1.5s", "10µs"}, []string{"5", "", "-1s", "1d", "5 s"}},
		sizePattern:     {[]string{"1B", "20MiB", "1.5GB"}, []string{"20", "20M", "-1B", "1 KiB"}},
		ratioPattern:    {[]string{"10%", "0.5%"}, []string{"10", "%", "-1%", "10 %"}},
		quantityPattern: {[]string{"100m", "0.5", "2", "64Mi", "1G"}, []string{"", "1 core", "64 MB", "-1", "1Mib"}},
		addressPattern:  {[]string{":80", "1.2.3.4:5", "[::1]:80"}, []string{"80", "localhost", "x:y"}},
	} {
		form := regexp.MustCompile(pattern)
		for _, text := range tt.good {
			if !form.MatchString(text) {
				t.Errorf("%s refuses %q", pattern, text)
			}
		}
		for _, text := range tt.bad {
			if form.MatchString(text) {
				t.Errorf("%s accepts %q", pattern, text)
			}
		}
	}
}

func FuzzLeaves(f *testing.F) {
	for _, seed := range []string{"5s", "20MiB", "10%", "0.1", ":80", "1e999", "1e999%", "[fe80::1%eth0]:80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, fresh := range []func() encoding.TextUnmarshaler{
			func() encoding.TextUnmarshaler { return new(Duration) },
			func() encoding.TextUnmarshaler { return new(Size) },
			func() encoding.TextUnmarshaler { return new(Address) },
			func() encoding.TextUnmarshaler { return new(Quantity) },
		} {
			first, second := fresh(), fresh()
			if first.UnmarshalText([]byte(text)) != nil {
				continue
			}
			out, err := first.(encoding.TextMarshaler).MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			if err := second.UnmarshalText(out); err != nil {
				t.Fatalf("%q is written as %q: %v", text, out, err)
			}
		}
		var r Ratio
		if r.UnmarshalText([]byte(text)) == nil && !(r >= 0) {
			t.Fatalf("%q is the share %v", text, r)
		}
	})
}
