package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written with its unit: "250ms", "5s", "1h30m".
type Duration time.Duration

// Size is a number of bytes, written with its unit: "20MiB", "1.5GB".
type Size int64

// Ratio is a share, written as "10%" or 0.1.
type Ratio float64

// Address is a TCP address, written as "127.0.0.1:8080", "[::1]:8080" or ":8080" (every address of the machine).
type Address netip.AddrPort

// Quantity is an amount of processor time or memory in the notation of Kubernetes: "100m", 2, "64Mi".
type Quantity string

// Patterns of the leaf types; the JSON Schema shows them to editors. Looser than the parsers only in the ranges of numbers.
const (
	durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	sizePattern     = `^[0-9]+(\.[0-9]+)?(B|[KMGT]i?B)$`
	ratioPattern    = `^[0-9]+(\.[0-9]+)?%$`
	addressPattern  = `^.*:[0-9]+$`
	quantityPattern = `^[0-9]+(\.[0-9]+)?(m|[kMGT]|[KMGT]i)?$`
)

var (
	durationForm = regexp.MustCompile(durationPattern)
	sizeForm     = regexp.MustCompile(sizePattern)
	ratioForm    = regexp.MustCompile(ratioPattern)
	quantityForm = regexp.MustCompile(quantityPattern)
	numberForm   = regexp.MustCompile(`^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$`)
)

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns d without zero units: "5m", not "5m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes d as UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration. A number without a unit is an error that shows one.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if numberForm.MatchString(s) {
		return fmt.Errorf("%s has no unit (write %ss or %sms)", s, s, s)
	}
	if !durationForm.MatchString(s) {
		return fmt.Errorf("%q is not a duration (write 250ms, 5s, 2m or 1h30m)", s)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is too long for a duration", s)
	}
	*d = Duration(v)
	return nil
}

var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"KB", 1e3},
	{"B", 1},
}

// Bytes returns s as a number of bytes.
func (s Size) Bytes() int64 { return int64(s) }

// String returns s in the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits[:4] {
		if n := int64(u.bytes); s != 0 && int64(s)%n == 0 {
			return fmt.Sprintf("%d%s", int64(s)/n, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(s))
}

// MarshalText writes s as UnmarshalText reads it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size. A number without a unit is an error that shows one.
func (s *Size) UnmarshalText(text []byte) error {
	t := string(text)
	if numberForm.MatchString(t) {
		return fmt.Errorf("%s has no unit (write %sMiB or %sB)", t, t, t)
	}
	if !sizeForm.MatchString(t) {
		return fmt.Errorf("%q is not a size (write 512KiB, 20MiB or 1.5GB)", t)
	}
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(t, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || n*u.bytes > 1<<60 {
			return fmt.Errorf("%q is too large for a size", t)
		}
		*s = Size(math.Round(n * u.bytes))
		return nil
	}
	return fmt.Errorf("%q is not a size", t) // the pattern names no other unit
}

// Float returns r as a number: 0.1 for 10%.
func (r Ratio) Float() float64 { return float64(r) }

// String returns r in percent, to ten decimal places at most: "10%".
func (r Ratio) String() string {
	return strconv.FormatFloat(math.Round(float64(r)*1e12)/1e10, 'f', -1, 64) + "%"
}

// MarshalText writes r in percent.
func (r Ratio) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "10%" or 0.1. A number above 1 is refused, because 10 for 10% is a likelier slip than 1000%.
func (r *Ratio) UnmarshalText(text []byte) error {
	s := string(text)
	percent := ratioForm.MatchString(s)
	if !percent && !numberForm.MatchString(s) {
		return fmt.Errorf("%q is not a share (write 10%% or 0.1)", s)
	}
	v, err := strconv.ParseFloat(strings.Replace(s, "%", "e-2", 1), 64)
	if err != nil {
		return fmt.Errorf("%q is too large for a share", s)
	}
	if !percent && v > 1 {
		return fmt.Errorf("%s is not a share between 0 and 1 (write %s%%?)", s, s)
	}
	*r = Ratio(v)
	return nil
}

// AddrPort returns a for package net; every address of the machine is the IPv6 unspecified address.
func (a Address) AddrPort() netip.AddrPort { return netip.AddrPort(a) }

// String returns a as host:port.
func (a Address) String() string { return netip.AddrPort(a).String() }

// MarshalText writes a as UnmarshalText reads it.
func (a Address) MarshalText() ([]byte, error) { return netip.AddrPort(a).MarshalText() }

// UnmarshalText reads host:port. Names are refused: where traffic enters must not depend on a resolver.
func (a *Address) UnmarshalText(text []byte) error {
	s := string(text)
	if port, err := strconv.ParseUint(s, 10, 16); err == nil {
		return fmt.Errorf("%s has no address (write 127.0.0.1:%d, or :%d for every address)", s, port, port)
	}
	if strings.HasPrefix(s, ":") {
		s = "[::]" + s
	}
	v, err := netip.ParseAddrPort(s)
	if err != nil {
		return fmt.Errorf("%q is not an address and a port in numbers (write 127.0.0.1:8080, [::1]:8080 or :8080)", string(text))
	}
	if v.Port() == 0 {
		return errors.New("port 0 would be another port each time (write 127.0.0.1:8080)")
	}
	*a = Address(v)
	return nil
}

// MarshalText writes q as UnmarshalText reads it.
func (q Quantity) MarshalText() ([]byte, error) { return []byte(q), nil }

// UnmarshalText reads an amount; of what, and so which units make sense, is for the field to say.
func (q *Quantity) UnmarshalText(text []byte) error {
	if !quantityForm.Match(text) {
		return fmt.Errorf("%q is not an amount in the notation of Kubernetes (write 100m, 0.5, 64Mi or 1Gi)", string(text))
	}
	*q = Quantity(text)
	return nil
}
