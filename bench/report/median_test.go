package report

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	gap := math.NaN()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 9}, 3},
		{[]float64{gap, 5, gap}, 5},
		{[]float64{gap, 5, 7}, 6},
		{nil, gap},
		{[]float64{gap}, gap},
	} {
		before := append([]float64(nil), c.values...)
		got := Median(c.values)
		if got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("Median(%v) = %v, want %v", before, got, c.want)
		}
		for i, v := range c.values {
			if v != before[i] && !math.IsNaN(v) {
				t.Errorf("Median changed its argument from %v to %v", before, c.values)
			}
		}
	}
}

func TestRatiosAreOfTheSameTrial(t *testing.T) {
	got := Ratios([]float64{1, math.NaN(), 9, 4}, []float64{2, 5, 0})
	if len(got) != 4 || got[0] != 0.5 {
		t.Errorf("ratios %v", got)
	}
	for i := 1; i < len(got); i++ {
		if !math.IsNaN(got[i]) {
			t.Errorf("ratio %d is %v though a figure is missing or zero", i, got[i])
		}
	}
}
