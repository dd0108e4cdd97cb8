package report

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// side is the length of a chart's sides in its own units; the page stretches it.
const side = 1000

// axis maps values to positions, 0 being the left or the bottom.
type axis struct {
	lo, hi float64
	log    bool
	ticks  []tick
}

// tick is a labelled place on an axis; Pos is in percent from the left or the top.
type tick struct {
	Pos, Label string
	at         float64
}

// at is the position of v, cut off at the ends.
func (a axis) at(v float64) float64 {
	lo, hi := a.lo, a.hi
	if a.log {
		if v <= 0 {
			return 0
		}
		v, lo, hi = math.Log(v), math.Log(lo), math.Log(hi)
	}
	return min(max((v-lo)/(hi-lo), 0), 1) * side
}

// tickAt labels v; vertical axes count from the top.
func (a axis) tickAt(v float64, label string, vertical bool) tick {
	pos := a.at(v)
	if vertical {
		pos = side - pos
	}
	return tick{Pos: number(pos * 100 / side), Label: label, at: pos}
}

// number is short: at most one decimal.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// timeAxis has ticks at round numbers of seconds.
func timeAxis(length time.Duration, most int) axis {
	a := axis{hi: max(length.Seconds(), 1)}
	step := a.hi
	for _, s := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 604800} {
		if a.hi/s <= float64(most) {
			step = s
			break
		}
	}
	for v := 0.0; v <= a.hi*1.0001; v += step {
		a.ticks = append(a.ticks, a.tickAt(v, seconds(v), false))
	}
	return a
}

func seconds(v float64) string {
	switch s := int(v); {
	case s == 0:
		return "0"
	case s%3600 == 0:
		return fmt.Sprintf("%d%sh", s/3600, thin)
	case s%60 == 0:
		return fmt.Sprintf("%d%smin", s/60, thin)
	case s < 60:
		return fmt.Sprintf("%d%ss", s, thin)
	default:
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
}

// linearAxis begins at zero and ends at a round number above top.
func linearAxis(top float64, label func(float64) string) axis {
	if !(top > 0) {
		top = 1
	}
	step := math.Pow10(int(math.Floor(math.Log10(top / 2))))
	for _, f := range []float64{2, 2.5, 2, 2} { // 1 2 5 10 20
		if top/step <= 4 {
			break
		}
		step *= f
	}
	a := axis{hi: math.Ceil(top/step-1e-9) * step}
	for i := 0.0; i*step <= a.hi*1.0001; i++ {
		a.ticks = append(a.ticks, a.tickAt(i*step, label(i*step), true))
	}
	return a
}

// latencyAxis is logarithmic, from 1-2-5 to 1-2-5 seconds.
func latencyAxis(lo, hi float64) axis {
	if !(lo > 0) || !(hi >= lo) {
		lo, hi = 1e-3, 1e-1
	}
	var steps []float64
	for e := -7; e < 3; e++ {
		for _, m := range []float64{1, 2, 5} {
			steps = append(steps, m*math.Pow10(e))
		}
	}
	first, last := 0, len(steps)-1
	for first+1 < len(steps) && steps[first+1] <= lo {
		first++
	}
	for last > first+1 && steps[last-1] >= hi {
		last--
	}
	a := axis{lo: steps[first], hi: steps[last], log: true}
	every := 1 + (last-first)/6
	for i := first; i <= last; i += every {
		a.ticks = append(a.ticks, a.tickAt(steps[i], duration(time.Duration(math.Round(steps[i]*1e9))), true))
	}
	return a
}

// oddsAxis is logarithmic in whole powers of ten.
func oddsAxis(lo, hi int) axis {
	a := axis{lo: math.Pow10(lo), hi: math.Pow10(hi), log: true}
	every := 1 + (hi-lo)/7
	for e := lo; e <= hi; e++ {
		if e%every == 0 {
			a.ticks = append(a.ticks, a.tickAt(math.Pow10(e), power(e), true))
		}
	}
	return a
}
