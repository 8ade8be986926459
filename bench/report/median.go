package report

import (
	"math"
	"slices"
)

// Median returns the middle of the values, of an even number the mean of the middle two. NaN stands for a
// value that is missing and is left out; without any value the median is NaN.
func Median(values []float64) float64 {
	known := make([]float64, 0, len(values))
	for _, v := range values {
		if !math.IsNaN(v) {
			known = append(known, v)
		}
	}
	if len(known) == 0 {
		return math.NaN()
	}
	slices.Sort(known)
	n := len(known)
	return (known[(n-1)/2] + known[n/2]) / 2
}

// Ratios returns a/b of each trial, NaN where one of them is missing or b is 0.
func Ratios(a, b []float64) []float64 {
	out := make([]float64, max(len(a), len(b)))
	for i := range out {
		out[i] = math.NaN()
		if i < len(a) && i < len(b) && b[i] != 0 {
			out[i] = a[i] / b[i]
		}
	}
	return out
}
