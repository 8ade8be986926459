// Package hist counts durations in a log-linear histogram: every power of two is cut into equal
// buckets, so that the error of a quantile is relative (at most 1/128) from nanoseconds to minutes,
// recording is one increment, and histograms of several processes add up exactly. The idea is that
// of HdrHistogram (https://hdrhistogram.org).
package hist

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"time"
)

const (
	subBits = 7
	sub     = 1 << subBits // buckets of each power of two
	maxBits = 38           // values from 2^38 ns, 275 s, count as the largest bucket
	buckets = (maxBits - subBits + 1) * sub
)

// Histogram counts durations. The zero value is empty and ready. It is not safe for concurrent use.
type Histogram struct {
	counts []uint64 // nil until the first Record
	n      uint64
	sum    float64 // nanoseconds
	max    int64   // nanoseconds, exact
}

// index returns the bucket of v nanoseconds: below sub the value itself, above it the seven bits
// after the leading one and the exponent.
func index(v int64) int {
	if v < sub {
		return int(v)
	}
	exp := bits.Len64(uint64(v)) - 1 - subBits
	i := exp*sub + int(v>>exp)
	return min(i, buckets-1)
}

// bounds returns the smallest value of bucket i and the smallest of the next, in nanoseconds.
func bounds(i int) (low, high int64) {
	if i < sub {
		return int64(i), int64(i) + 1
	}
	exp := i/sub - 1
	m := int64(i%sub + sub)
	return m << exp, (m + 1) << exp
}

// Record counts one duration; a negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	v := max(int64(d), 0)
	h.counts[index(v)]++
	h.n++
	h.sum += float64(v)
	h.max = max(h.max, v)
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Max returns the largest duration recorded, exactly.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max) }

// Mean returns the average, 0 when empty.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return time.Duration(h.sum / float64(h.n))
}

// Quantile returns the duration that a share q of all recorded ones does not exceed: the middle of
// the bucket in which the rank ceil(q*n) lies, never above Max. It is 0 when empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(h.n)))
	rank = min(max(rank, 1), h.n)
	if rank == h.n {
		return h.Max()
	}
	var seen uint64
	for i, c := range h.counts {
		seen += c
		if seen >= rank {
			low, high := bounds(i)
			return time.Duration(min(low+(high-1-low)/2, h.max))
		}
	}
	return h.Max()
}

// Add adds everything recorded in o.
func (h *Histogram) Add(o *Histogram) {
	if o.n == 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Bar is a bucket that is not empty.
type Bar struct {
	Low, High time.Duration // Low <= value < High
	Count     uint64
}

// Bars returns the buckets that are not empty, in order of their values.
func (h *Histogram) Bars() []Bar {
	var bars []Bar
	for i, c := range h.counts {
		if c > 0 {
			low, high := bounds(i)
			bars = append(bars, Bar{time.Duration(low), time.Duration(high), c})
		}
	}
	return bars
}

// wire is the JSON form: index and count of each bucket that is not empty.
type wire struct {
	Max     int64       `json:"max"`
	Sum     float64     `json:"sum"`
	Buckets [][2]uint64 `json:"buckets"`
}

// MarshalJSON writes the buckets that are not empty; nanoseconds throughout.
func (h Histogram) MarshalJSON() ([]byte, error) {
	w := wire{Max: h.max, Sum: h.sum, Buckets: [][2]uint64{}}
	for i, c := range h.counts {
		if c > 0 {
			w.Buckets = append(w.Buckets, [2]uint64{uint64(i), c})
		}
	}
	return json.Marshal(w)
}

// UnmarshalJSON replaces the content by what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*h = Histogram{max: w.Max, sum: w.Sum}
	for _, p := range w.Buckets {
		if p[0] >= buckets {
			return fmt.Errorf("hist: bucket %d of %d", p[0], buckets)
		}
		if h.counts == nil {
			h.counts = make([]uint64, buckets)
		}
		h.counts[p[0]] += p[1]
		h.n += p[1]
	}
	return nil
}
