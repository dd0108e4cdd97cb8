package gate

import (
	"fmt"
	"slices"
	"time"
)

// Defaults of Config.
const (
	DefaultAlpha      = 0.01
	DefaultBeta       = 0.05
	DefaultTolerance  = 0.15
	DefaultOddsRatio  = 2.0
	DefaultErrorFloor = 0.01
	DefaultSlowRatio  = 0.01
)

// DefaultQuantiles are the quantiles of the baseline at which latencies are compared.
var DefaultQuantiles = []float64{0.5, 0.75, 0.9, 0.95, 0.99}

// Config says how strict a gate is. The zero value is the recommended gate; a
// field that is zero takes its default. Ratios are shares between 0 and 1.
type Config struct {
	// Alpha bounds the chance that a healthy canary ever fails, over the whole
	// rollout and however often it is looked at. Default 0.01.
	Alpha float64 `json:"alpha,omitempty"`
	// Beta bounds the chance that a canary passes whose odds of a bad request are
	// OddsRatio times the baseline's at any quantile. Default 0.05.
	Beta float64 `json:"beta,omitempty"`
	// Tolerance is how much slower the canary may be without failing, 0.15 for
	// 15 %. Default 0.15; negative for none at all.
	Tolerance float64 `json:"tolerance,omitempty"`
	// PassTolerance is how much slower the canary may be in what a pass shows.
	// Default 0. Raise it, up to Tolerance, where latencies are so uniform that a
	// few per cent between two equal processes are already twice the odds.
	PassTolerance float64 `json:"pass_tolerance,omitempty"`
	// OddsRatio is the non-inferiority margin of a pass, above 1. Default 2.
	OddsRatio float64 `json:"odds_ratio,omitempty"`
	// ErrorFloor is the share of failed requests that a pass rules out where the
	// baseline has hardly any: twice nothing cannot be ruled out. Default 0.01.
	ErrorFloor float64 `json:"error_floor,omitempty"`
	// Quantiles of the baseline at which latencies are compared, ascending,
	// above 0 and below 1. Default 0.5, 0.75, 0.9, 0.95, 0.99.
	Quantiles []float64 `json:"quantiles,omitempty"`
	// SLO adds absolute objectives. The zero value has none.
	SLO SLO `json:"slo,omitzero"`
}

// SLO holds what the canary must keep whatever the baseline does.
type SLO struct {
	// Latency is what a request may take, rounded up to a bucket edge (by 2.2 %
	// at most). Zero means no objective; at most 64 s.
	Latency time.Duration `json:"latency_ns,omitempty"`
	// LatencyRatio is the share of requests that may take longer than Latency,
	// 0.01 for "99 % are faster". Default 0.01.
	LatencyRatio float64 `json:"latency_ratio,omitempty"`
	// ErrorRatio is the share of requests that may fail. Zero means no objective.
	ErrorRatio float64 `json:"error_ratio,omitempty"`
}

// ConfigError says which field of a Config is wrong and what it may be.
type ConfigError struct {
	Field string  // as in Go: "Alpha", "SLO.Latency"
	Value float64 // what it was; seconds for a duration
	Want  string  // "above 0 and below 1"
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("gate configuration: %s is %g, want %s", e.Field, e.Value, e.Want)
}

// withDefaults fills in what is zero, on a copy.
func (c Config) withDefaults() Config {
	c.Alpha = orDefault(c.Alpha, DefaultAlpha)
	c.Beta = orDefault(c.Beta, DefaultBeta)
	c.Tolerance = orDefault(c.Tolerance, DefaultTolerance)
	c.OddsRatio = orDefault(c.OddsRatio, DefaultOddsRatio)
	c.ErrorFloor = orDefault(c.ErrorFloor, DefaultErrorFloor)
	if len(c.Quantiles) == 0 {
		c.Quantiles = DefaultQuantiles
	}
	c.Quantiles = slices.Clone(c.Quantiles)
	if c.SLO.Latency != 0 {
		c.SLO.LatencyRatio = orDefault(c.SLO.LatencyRatio, DefaultSlowRatio)
	}
	return c
}

func orDefault(value, fallback float64) float64 {
	if value == 0 {
		return fallback
	}
	return value
}

// validate expects the defaults to be filled in. Comparisons are written so
// that NaN is refused.
func (c Config) validate() error {
	share := func(v float64) bool { return v > 0 && v < 1 }
	const shareText = "above 0 and below 1"
	rules := []struct {
		ok    bool
		field string
		value float64
		want  string
	}{
		{share(c.Alpha), "Alpha", c.Alpha, shareText},
		{share(c.Beta), "Beta", c.Beta, shareText},
		{c.Tolerance <= 10, "Tolerance", c.Tolerance, "at most 10"},
		{c.PassTolerance >= 0 && c.PassTolerance <= 10, "PassTolerance", c.PassTolerance, "from 0 to 10"},
		{c.OddsRatio > 1 && c.OddsRatio <= 1000, "OddsRatio", c.OddsRatio, "above 1 and at most 1000"},
		{share(c.ErrorFloor), "ErrorFloor", c.ErrorFloor, shareText},
		{c.SLO.Latency >= 0 && c.SLO.Latency <= 64*time.Second, "SLO.Latency", c.SLO.Latency.Seconds(), "from 0 to 64 s"},
		{c.SLO.LatencyRatio == 0 || share(c.SLO.LatencyRatio), "SLO.LatencyRatio", c.SLO.LatencyRatio, shareText},
		{c.SLO.ErrorRatio == 0 || share(c.SLO.ErrorRatio), "SLO.ErrorRatio", c.SLO.ErrorRatio, shareText},
	}
	for _, r := range rules {
		if !r.ok {
			return &ConfigError{Field: r.field, Value: r.value, Want: r.want}
		}
	}
	for i, q := range c.Quantiles {
		if !share(q) || i > 0 && q <= c.Quantiles[i-1] {
			return &ConfigError{Field: "Quantiles", Value: q, Want: "ascending, " + shareText}
		}
	}
	return nil
}
