package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/internal/kernels/outcome"
)

// status is what an outcome means for a kernel of some version.
type status int

const (
	works       status = iota
	unsupported        // and nothing else was promised
	broken             // and it was promised
)

// judge decides. What works on a kernel older than promised works all the same.
func judge(kernel string, o outcome.Outcome) (status, error) {
	if o.Error == "" {
		return works, nil
	}
	have, err := parseVersion(kernel)
	if err != nil {
		return broken, err
	}
	need, err := parseVersion(o.Needs)
	if err != nil {
		return broken, err
	}
	if have.older(need) {
		return unsupported, nil
	}
	return broken, nil
}

// verdict tells every capability that is not there. Those that are promised are
// an error.
func verdict(w io.Writer, columns []column) error {
	missing := 0
	for _, c := range columns {
		for _, o := range c.outcomes {
			s, err := judge(c.report.kernel, o)
			if err != nil {
				return err
			}
			if s == broken {
				missing++
			}
			if s != works && !o.After {
				explain(w, c.report.kernel, o)
			}
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d capabilities are promised and not there", missing)
	}
	return nil
}

// explain tells why a capability is not there.
func explain(w io.Writer, kernel string, o outcome.Outcome) {
	fmt.Fprintf(w, "%s: %s (promised from %s on): %s\n", kernel, o.Name, o.Needs, o.Error)
	for _, line := range o.Log {
		fmt.Fprintf(w, "    %s\n", line)
	}
}

// version is the major and minor number of a kernel.
type version struct{ major, minor int }

func (v version) older(than version) bool {
	return cmp.Or(cmp.Compare(v.major, than.major), cmp.Compare(v.minor, than.minor)) < 0
}

// parseVersion reads the front of "6.12" and of "5.10.0-46-cloud-amd64".
func parseVersion(s string) (v version, err error) {
	major, rest, ok := strings.Cut(s, ".")
	minor := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		minor = rest[:end]
	}
	if v.major, err = strconv.Atoi(major); err == nil && ok {
		v.minor, err = strconv.Atoi(minor)
	}
	if err != nil || !ok {
		return v, fmt.Errorf("%q is no version of a kernel, expected one like 5.10", s)
	}
	return v, nil
}
