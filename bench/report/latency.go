package report

import (
	"math"
	"time"

	"github.com/stellara/edge/bench/hist"
)

// NewLatency summarizes a histogram: quantiles, a curve that is dense towards the slowest, and bars
// of equal width on a logarithmic axis.
func NewLatency(h *hist.Histogram) Latency {
	l := Latency{
		Count: h.Count(), Mean: ms(h.Mean()), P50: ms(h.Quantile(0.5)), P90: ms(h.Quantile(0.9)),
		P99: ms(h.Quantile(0.99)), P999: ms(h.Quantile(0.999)), Max: ms(h.Max()),
	}
	if h.Count() == 0 {
		return l
	}
	// Down to one in the number of values, and to one in 100,000 at most.
	depth := min(math.Log10(float64(h.Count())), 5)
	for x := 0.0; x <= depth; x += 0.05 {
		share := 1 - math.Pow(10, -x)
		l.Curve = append(l.Curve, Point{share, ms(h.Quantile(share))})
	}
	l.Bars = bars(h)
	return l
}

// perDecade is how many bars share a factor of ten.
const perDecade = 12

func bars(h *hist.Histogram) []Bar {
	counts := map[int]uint64{}
	low, high := math.MaxInt, math.MinInt
	for _, b := range h.Bars() {
		// The middle of a bucket is within 1/256 of all its values.
		k := int(math.Floor(math.Log10(max(ms((b.Low+b.High)/2), 0.001)) * perDecade))
		counts[k] += b.Count
		low, high = min(low, k), max(high, k)
	}
	var out []Bar
	for k := low; k <= high; k++ {
		out = append(out, Bar{
			Low: math.Pow(10, float64(k)/perDecade), High: math.Pow(10, float64(k+1)/perDecade),
			Share: float64(counts[k]) / float64(h.Count()),
		})
	}
	return out
}

// ms returns a duration in milliseconds.
func ms(d time.Duration) float64 { return float64(d) / 1e6 }
