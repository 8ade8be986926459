package hist

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreContiguous(t *testing.T) {
	for i := range buckets - 1 {
		_, high := bounds(i)
		low, _ := bounds(i + 1)
		if high != low {
			t.Fatalf("bucket %d ends at %d, the next starts at %d", i, high, low)
		}
		if got := index(low); got != i+1 {
			t.Fatalf("index(%d) = %d, want %d", low, got, i+1)
		}
		if got := index(low - 1); got != i {
			t.Fatalf("index(%d) = %d, want %d", low-1, got, i)
		}
	}
}

func TestQuantilesAgainstSortedValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draws := map[string]func() int64{
		"uniform":     func() int64 { return rng.Int64N(50_000_000) },
		"exponential": func() int64 { return int64(rng.ExpFloat64() * 2e6) },
		"lognormal":   func() int64 { return int64(math.Exp(rng.NormFloat64()*2 + 14)) },
		"small":       func() int64 { return rng.Int64N(300) },
		"constant":    func() int64 { return 3_600_000 },
	}
	for name, draw := range draws {
		var h Histogram
		values := make([]int64, 20_000)
		for i := range values {
			values[i] = draw()
			h.Record(time.Duration(values[i]))
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
			want := values[max(int(math.Ceil(q*float64(len(values)))), 1)-1]
			got := int64(h.Quantile(q))
			if diff := math.Abs(float64(got - want)); diff > float64(want)/sub+1 {
				t.Errorf("%s: quantile %v = %d, exactly %d", name, q, got, want)
			}
		}
		if h.Count() != uint64(len(values)) || int64(h.Max()) != values[len(values)-1] {
			t.Errorf("%s: count %d, max %v", name, h.Count(), h.Max())
		}
	}
}

func TestEmptyAndExtremes(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 || h.Mean() != 0 || h.Max() != 0 || len(h.Bars()) != 0 {
		t.Errorf("an empty histogram has values: %+v", h)
	}
	h.Record(-time.Second)
	h.Record(time.Hour)
	if h.Quantile(0.5) != 0 {
		t.Errorf("a negative duration counts as %v, want 0", h.Quantile(0.5))
	}
	if h.Quantile(1) != time.Hour || h.Max() != time.Hour {
		t.Errorf("max = %v, want 1h", h.Max())
	}
}

func TestAddAndJSONKeepEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var all, a, b Histogram
	for i := range 5000 {
		d := time.Duration(rng.Int64N(1e9))
		all.Record(d)
		if i%3 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var copied Histogram
	if err := json.Unmarshal(text, &copied); err != nil {
		t.Fatal(err)
	}
	a.Add(&copied)
	for _, q := range []float64{0.1, 0.5, 0.99, 1} {
		if a.Quantile(q) != all.Quantile(q) {
			t.Errorf("quantile %v: %v after merging, %v at once", q, a.Quantile(q), all.Quantile(q))
		}
	}
	if a.Count() != all.Count() || a.Mean() != all.Mean() {
		t.Errorf("count %d mean %v, want %d %v", a.Count(), a.Mean(), all.Count(), all.Mean())
	}
	var total uint64
	for _, bar := range a.Bars() {
		total += bar.Count
	}
	if total != all.Count() {
		t.Errorf("bars hold %d, want %d", total, all.Count())
	}
	if err := json.Unmarshal([]byte(`{"buckets":[[99999,1]]}`), &copied); err == nil {
		t.Error("a bucket out of range was accepted")
	}
}
